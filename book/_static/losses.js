// The losses of lkd.objectives for one image, with their gradients, and the page on which sliders change them.
"use strict";

// Each method takes an image { student, teacher, label } with the logits of both networks, and its parameters; it
// returns the value and the gradient, with respect to the student's logits, of each term, named as in lkd.objectives.
const lkdLosses = (() => {
  const sum = (row) => row.reduce((total, value) => total + value, 0);
  const mean = (row) => sum(row) / row.length;
  const dot = (a, b) => sum(a.map((value, place) => value * b[place]));
  const minus = (a, b) => a.map((value, place) => value - b[place]);
  const scaled = (factor, row) => row.map((value) => factor * value);
  const oneHot = (label, row) => row.map((_, place) => Number(place === label));
  const without = (row, label) => row.filter((_, place) => place !== label);
  const inserted = (value, row, label) => [...row.slice(0, label), value, ...row.slice(label)];
  const weighted = (weight, { value, gradient }) => ({ value: weight * value, gradient: scaled(weight, gradient) });

  function logSumExp(row) {
    const top = Math.max(...row);
    return top + Math.log(sum(row.map((value) => Math.exp(value - top))));
  }

  function logSoftmax(logits, temperature = 1) {
    const softened = scaled(1 / temperature, logits);
    const norm = logSumExp(softened);
    return softened.map((value) => value - norm);
  }

  const softmax = (logits, temperature) => logSoftmax(logits, temperature).map(Math.exp);
  const entropy = (logits, temperature) => -dot(softmax(logits, temperature), logSoftmax(logits, temperature));

  // KL(softmax(teacher / T) || softmax(student / T)).
  function divergence(student, teacher, temperature = 1) {
    const [ours, theirs] = [student, teacher].map((logits) => logSoftmax(logits, temperature));
    const [p, q] = [ours, theirs].map((row) => row.map(Math.exp));
    return { value: dot(q, minus(theirs, ours)), gradient: scaled(1 / temperature, minus(p, q)) };
  }

  function crossEntropy(student, label) {
    return { value: -logSoftmax(student)[label], gradient: minus(softmax(student), oneHot(label, student)) };
  }

  // The mean over the classes of the cross-entropy of each class on its own.
  function binaryCrossEntropy(student, label) {
    const truth = oneHot(label, student);
    const softplus = student.map((z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))));
    const sigmoid = student.map((z) => 1 / (1 + Math.exp(-z)));
    return {
      value: mean(softplus) - dot(truth, student) / student.length,
      gradient: scaled(1 / student.length, minus(sigmoid, truth)),
    };
  }

  // TCKD: the divergence of the pairs (p_y, 1 - p_y).
  function ofTarget({ student, teacher, label }, temperature) {
    const [ours, theirs] = [student, teacher].map((logits) => {
      const log = logSoftmax(logits, temperature);
      return [log[label], logSumExp(without(log, label))];
    });
    const slope = (Math.exp(ours[0]) - Math.exp(theirs[0])) / temperature;
    const others = scaled(-slope, softmax(without(student, label), temperature));
    return { value: dot(theirs.map(Math.exp), minus(theirs, ours)), gradient: inserted(slope, others, label) };
  }

  // NCKD: the divergence over the classes other than the label.
  function ofOthers({ student, teacher, label }, temperature) {
    const { value, gradient } = divergence(without(student, label), without(teacher, label), temperature);
    return { value, gradient: inserted(0, gradient, label) };
  }

  // Pearson's correlation, and its gradient with respect to `a`.
  function correlation(a, b) {
    [a, b] = [a, b].map((row) => row.map((value) => value - mean(row)));
    const [length, other] = [a, b].map((row) => Math.hypot(...row));
    const norms = length * other + 1e-8;
    const shared = length && (dot(a, b) * other) / (length * norms ** 2);
    return { value: dot(a, b) / norms, gradient: minus(scaled(1 / norms, b), scaled(shared, a)) };
  }

  const methods = {
    kd({ student, teacher, label }, { temperature, alpha }) {
      return {
        kd: weighted(alpha * temperature ** 2, divergence(student, teacher, temperature)),
        label: weighted(1 - alpha, crossEntropy(student, label)),
      };
    },

    nkd(image, { temperature, gamma }) {
      const { student, teacher, label } = image;
      const { value, gradient } = ofOthers(image, temperature);
      const crossed = { value: value + entropy(without(teacher, label), temperature), gradient };
      return {
        target: weighted(softmax(teacher)[label], crossEntropy(student, label)),
        non_target: weighted(gamma * temperature ** 2, crossed),
      };
    },

    dkd(image, { temperature, alpha, beta }) {
      return {
        target: weighted(alpha * temperature ** 2, ofTarget(image, temperature)),
        non_target: weighted(beta * temperature ** 2, ofOthers(image, temperature)),
      };
    },

    // `others` are the other images of the batch, which get no gradient here.
    dist(image, { temperature, beta, gamma }, others) {
      const [ours, theirs] = ["student", "teacher"].map((who) =>
        [image, ...others].map((each) => softmax(each[who], temperature)));
      const column = (rows, place) => rows.map((row) => row[place]);
      const overClasses = ours.map((row, place) => correlation(row, theirs[place]));
      const overImages = ours[0].map((_, place) => correlation(column(ours, place), column(theirs, place)));
      const term = (weight, found, slopes) => ({
        value: weight * temperature ** 2 * (1 - mean(found.map(({ value }) => value))),
        gradient: ours[0].map((p, place) =>
          ((-weight * temperature) / found.length) * p * (slopes[place] - dot(ours[0], slopes))),
      });
      return {
        inter: term(beta, overClasses, overClasses[0].gradient),
        intra: term(gamma, overImages, overImages.map(({ gradient }) => gradient[0])),
      };
    },

    vanilla({ student, teacher, label }) {
      return { kd: divergence(student, teacher), label: binaryCrossEntropy(student, label) };
    },
  };

  return { methods, softmax, sum };
})();

// The page. Its address contains all that differs from the first example.
(() => {
  const root = document.querySelector(".lkd-losses");
  if (!root) return;
  const { methods, softmax, sum } = lkdLosses;
  const form = root.querySelector("form");
  const { classes, others, examples } = JSON.parse(root.querySelector("script").textContent);
  const first = examples[0].values;
  const buttons = [...root.querySelectorAll("[data-example]")];
  const sections = [...root.querySelectorAll("[data-method]")];

  const fixed = (value, digits = 3) => (Math.abs(value) < 1e4 ? value.toFixed(digits) : value.toPrecision(2))
    .replace(/^-(0\.?0*$)?/, (_, zero) => zero ?? "−");
  const signed = (value) => (value >= 0.0005 ? "+" : "") + fixed(value);
  const say = (parent, name, text) => { parent.querySelector(`[name=${name}]`).value = text; };

  function place(rect, from, to) {
    rect.setAttribute("x", `${100 * Math.min(from, to)}%`);
    rect.setAttribute("width", `${100 * Math.abs(to - from)}%`);
  }

  const read = () => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, Number(value)]));

  function write(values) {
    for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
    if (!form.elements.label.value) form.elements.label.value = first.label;
  }

  const logitsOf = (who, values) => classes.map((each) => values[`${who}-${each}`]);

  // The terms of a method, and by class the pulls of each term: its gradient, reversed.
  function lossOf(method, values) {
    const image = { student: logitsOf("student", values), teacher: logitsOf("teacher", values), label: values.label };
    const own = Object.entries(values).map(([name, value]) => [name.replace(`${method}-`, ""), value]);
    const terms = Object.values(methods[method](image, Object.fromEntries(own), others));
    const pulls = classes.map((_, each) => terms.map(({ gradient }) => -gradient[each]));
    return { parts: terms.map(({ value }) => value), pulls };
  }

  function showInputs(values) {
    for (const slider of form.querySelectorAll("input"))
      slider.nextElementSibling.value = fixed(slider.valueAsNumber, slider.step.split(".")[1]?.length);
    for (const who of ["teacher", "student"]) {
      const p = softmax(logitsOf(who, values), values.temperature);
      root.querySelectorAll(`[data-who=${who}]`).forEach((row, each) => {
        place(row.querySelector("rect"), 0, p[each]);
        say(row, "p", fixed(p[each]));
      });
      if (who === "teacher") say(root, "rest", fixed(1 - p[values.label]));
    }
    root.querySelectorAll("fieldset").forEach((box, each) => box.classList.toggle("lkd-true", each === values.label));
  }

  function showLoss(section, { parts, pulls }) {
    const [total, limit] = [sum(parts), limitOf(pulls)];
    say(section, "loss", fixed(total));
    section.querySelectorAll("[name=part]").forEach((output, part) => { output.value = fixed(parts[part]); });
    section.querySelectorAll(".lkd-shares rect").forEach((rect, part) => {
      const from = part && parts[0] / (total || 1);
      place(rect, from, from + parts[part] / (total || 1));
    });
    section.querySelectorAll(".lkd-pull").forEach((row, each) => {
      const ends = [...pulls[each], sum(pulls[each])].map((pull) => 0.5 + pull / (2 * limit));
      const [one, other, net] = row.querySelectorAll("rect");
      place(one, 0.5, ends[0]);
      place(other, 0.5, ends[1]);
      net.setAttribute("x", `${100 * ends[2]}%`);
      say(row, "net", signed(sum(pulls[each])));
    });
    say(section, "low", `−${limit}`);
    say(section, "high", `+${limit}`);
  }

  // The end of the axis of pulls: 1, 2 or 5 times a power of ten.
  function limitOf(pulls) {
    const most = Math.max(0.1, ...pulls.flatMap((pull) => [...pull, sum(pull)]).map(Math.abs));
    const power = 10 ** Math.floor(Math.log10(most));
    return Number(([1, 2, 5, 10].find((step) => step * power >= most) * power).toPrecision(1));
  }

  function show() {
    const values = read();
    showInputs(values);
    sections.forEach((section) => showLoss(section, lossOf(section.dataset.method, values)));
    const same = (example) => Object.entries(example.values).every(([name, value]) => values[name] === value);
    buttons.forEach((button, each) => button.setAttribute("aria-pressed", same(examples[each])));
    root.querySelector(".lkd-sentence").textContent =
      examples.find(same)?.sentence ?? "Your own example. The address of this page contains it, for links.";
  }

  function remember() {
    const changed = Object.entries(read()).filter(([name, value]) => value !== first[name]);
    const { pathname, search } = location;
    history.replaceState(null, "", changed.length ? `#${new URLSearchParams(changed)}` : pathname + search);
    const said = sections.map((each) => `${each.dataset.title} ${each.querySelector("[name=loss]").value}`);
    root.querySelector("p[role=status]").textContent = `Losses: ${said.join(", ")}.`;
  }

  // An address that names no slider, as that of a heading, changes nothing.
  function restore() {
    const kept = [...new URLSearchParams(location.hash.slice(1))]
      .filter(([name, text]) => name in first && text && Number.isFinite(Number(text)));
    if (kept.length) write({ ...first, ...Object.fromEntries(kept) });
  }

  form.addEventListener("input", show);
  form.addEventListener("change", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  buttons.forEach((button, each) => button.addEventListener("click", () => {
    write(examples[each].values);
    show();
    remember();
  }));
  addEventListener("hashchange", () => { restore(); show(); });
  restore();
  show();
})();
