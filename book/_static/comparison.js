// Shows the selected published runs: rows of the tables, and figures, which figures.js draws. The page's address
// contains the selection.
"use strict";
(() => {
  const root = document.querySelector(".lkd-comparison");
  const form = root.querySelector("form");
  const boxes = [...form.querySelectorAll("input")];
  const { cells, measures, styles, names } = JSON.parse(root.querySelector("script").textContent);
  const tables = [...root.querySelectorAll("tbody")];
  const figures = [...root.querySelectorAll(".lkd-figure")].map((figure) => {
    const [target, script] = ["div", "script"].map((kind) => figure.querySelector(kind));
    return { figure, target, script, meta: JSON.parse(script.textContent).layout.meta };
  });
  const NAMES = 4; // columns of a row before its quantities
  const narrow = matchMedia("(max-width: 600px)");
  const LEGEND = { orientation: "h", x: 0, y: 1, yanchor: "bottom" };
  const MARGIN = { l: 10, r: 10, t: 10, b: 10 };

  const unique = (entries) => [...new Set(entries)];

  const isChosen = (quantity) => boxes.find(({ name, value }) => name === "quantity" && value === quantity).checked;

  // The checkbox of a cell's objective; a baseline has none.
  const boxOf = ({ objective }) => boxes.find(({ name, value }) => name === "objective" && value === objective);

  // Named groups of cells by profile, student and objective; a baseline belongs to all groups of its student.
  function grouped(shown) {
    const several = unique(shown.map(({ profile }) => profile)).length > 1;
    const learners = unique(shown.map(({ profile, student }) => JSON.stringify([profile, student]))).map(JSON.parse);
    return learners.flatMap(([profile, student]) => {
      const own = shown.filter((cell) => cell.profile === profile && cell.student === student);
      const methods = unique(own.map(boxOf));
      const distilled = methods.filter(Boolean);
      return (distilled.length ? distilled : methods).map((box) => ({
        name: [names.student[student], box?.labels[0].textContent.trim(), several && profile].filter(Boolean),
        cells: own.filter((cell) => [box, undefined].includes(boxOf(cell))),
      }));
    });
  }

  // The name of a teacher that is drawn and, if it differs, the one in the code.
  const named = (teacher) => {
    const name = names.teacher[teacher];
    return [teacher, "student alone"].includes(name) ? name : `${name} (${teacher})`;
  };

  const hoverText = ({ name, teacher, mean, low, high, n }, [title, unit]) => [
    name.join(", "),
    `teacher: ${named(teacher)}`,
    `${title} ${mean.toFixed(2)} ${unit}`,
    low === null ? "no interval from one run" : `95 % interval ${low.toFixed(2)} to ${high.toFixed(2)}`,
    `runs: ${n}`,
  ].join("<br>");

  // The range of the axis: all intervals, and zero for differences.
  function rangeOf(measure, rows) {
    const ends = rows.flatMap(({ mean, low, high }) => [low ?? mean, high ?? mean]);
    if (!["distilled_top1", "share", "error"].includes(measure)) ends.push(0);
    const [least, most] = [Math.min(...ends), Math.max(...ends)];
    const room = 0.05 * (most - least || 1);
    return [least - room, most + room];
  }

  function extremes(rows) {
    const ordered = [...rows].sort((one, other) => one.mean - other.mean);
    const said = ({ name, teacher, mean }) => `${mean.toFixed(2)} (${[...name, names.teacher[teacher]].join(", ")})`;
    return `from ${said(ordered[0])} to ${said(ordered.at(-1))}`;
  }

  // A mean with its interval for each cell, the teachers of a group below each other.
  function points(measure, groups) {
    const [title, unit] = measures[measure];
    const rows = groups.flatMap(({ name, cells }) =>
      cells.map(({ teacher, [measure]: spread }) => ({ name, teacher, ...spread })));
    const data = unique(rows.map(({ teacher }) => teacher)).map((teacher) => {
      const [color, symbol] = styles[teacher];
      const own = rows.filter((row) => row.teacher === teacher);
      return {
        mode: "markers",
        orientation: "h",
        name: names.teacher[teacher],
        offsetgroup: teacher,
        showlegend: true,
        x: own.map(({ mean }) => mean),
        y: own.map(({ name }) => name.join("<br>")),
        error_x: { array: own.map(({ mean, high }) => (high ?? mean) - mean), color, thickness: 2 },
        marker: { color, symbol, size: 10 },
        hovertext: own.map((row) => hoverText(row, measures[measure])),
        hoverinfo: "text",
      };
    });
    const layout = {
      height: groups.reduce((sum, { cells }) => sum + Math.max(56, 20 + 18 * cells.length), 100),
      scattermode: "group",
      xaxis: { title: { text: `${title} (${unit})` }, automargin: true, range: rangeOf(measure, rows) },
      yaxis: { type: "category", autorange: "reversed", automargin: true, showgrid: false },
    };
    return { data, layout, alt: `${title} in ${unit}: ${rows.length} means, ${extremes(rows)}.` };
  }

  // A line for each teacher, a panel for each group.
  function lines(groups) {
    const columns = narrow.matches ? 1 : Math.min(2, groups.length);
    const rows = Math.ceil(groups.length / columns);
    const layout = {
      height: 100 + 240 * rows,
      legend: { ...LEGEND, y: 1 + 0.1 / rows }, // above the name of the first panel
      grid: { rows, columns, pattern: "independent", ygap: 0.25 },
      annotations: [],
    };
    const data = groups.flatMap(({ name, cells }, place) => {
      const [x, y] = ["x", "y"].map((letter) => (place ? letter + (place + 1) : letter));
      const axis = (letter, text) => ({ automargin: true, title: { text }, ...(place && { matches: letter }) });
      layout[x.replace("x", "xaxis")] = axis("x", place + columns < groups.length ? "" : "epoch");
      layout[y.replace("y", "yaxis")] = axis("y", place % columns ? "" : "validation top-1 (%)");
      layout.annotations.push({
        text: name.join(", "), showarrow: false,
        xref: `${x} domain`, yref: `${y} domain`, x: 0, y: 1, xanchor: "left", yanchor: "bottom",
      });
      return cells.map(({ teacher, curve, distilled_top1: { n } }) => {
        const [color, symbol, dash] = styles[teacher];
        return {
          mode: "lines+markers",
          name: names.teacher[teacher],
          legendgroup: teacher,
          xaxis: x,
          yaxis: y,
          x: curve.epoch,
          y: curve.val_top1,
          line: { color, dash, width: 2 },
          marker: { symbol, size: 7 },
          hovertemplate: `${named(teacher)}<br>epoch %{x}: %{y:.2f} %<br>runs: ${n}<extra></extra>`,
        };
      });
    });
    data.forEach((trace, place) => { trace.showlegend = place === data.findIndex(({ name }) => name === trace.name); });
    return { data, layout, alt: `Validation top-1 in % by epoch: ${data.length} lines in ${groups.length} panels.` };
  }

  function show() {
    const shown = cells.filter((cell) => boxes.every(({ name, value, checked }) => checked || cell[name] !== value));
    for (const table of tables) cells.forEach((cell, row) => { table.rows[row].hidden = !shown.includes(cell); });
    Object.keys(measures).forEach((measure, place) => {
      for (const { cells: row } of tables[0].closest("table").rows) row[place + NAMES].hidden = !isChosen(measure);
    });
    const distilled = shown.filter(boxOf);
    const has = (measure) => (distilled.length ? distilled : shown).some((cell) => cell[measure]);
    for (const { figure, target, script, meta } of figures) {
      figure.hidden = !isChosen(meta.shows) || !has(meta.shows);
      if (figure.hidden) continue;
      const groups = grouped(shown.filter((cell) => cell[meta.shows]));
      const { data, layout, alt } = meta.shows === "curve" ? lines(groups) : points(meta.shows, groups);
      target.style.minHeight = `${layout.height}px`;
      target.setAttribute("aria-label", alt);
      script.textContent = JSON.stringify({ data, layout: { legend: LEGEND, margin: MARGIN, ...layout, meta } });
      figure.dispatchEvent(new Event("lkd-change", { bubbles: true }));
    }
    const lacking = Object.keys(measures).filter((measure) => isChosen(measure) && shown.length && !has(measure));
    const without = lacking.length ? ` Without ${lacking.map((measure) => measures[measure][0]).join(", ")}.` : "";
    root.querySelector("[role=status]").textContent = `${shown.length} of ${cells.length} rows are shown.${without}`;
  }

  // An address that names no box, as that of a heading, leaves the choice as it is.
  function restore() {
    const kept = new URLSearchParams(location.hash.slice(1));
    if (!boxes.some(({ name }) => kept.has(name))) return;
    for (const box of boxes) box.checked = !kept.has(box.name) || kept.getAll(box.name).includes(box.value);
  }

  function remember() {
    const kept = new URLSearchParams(new FormData(form));
    for (const name of unique(boxes.map((box) => box.name)))
      if (boxes.every((box) => box.name !== name || box.checked)) kept.delete(name);
    history.replaceState(null, "", String(kept) ? `#${kept}` : location.pathname);
    show();
  }

  form.addEventListener("change", remember);
  form.addEventListener("reset", () => setTimeout(remember)); // after the boxes are ticked
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { restore(); show(); });
  narrow.addEventListener("change", show);
  form.closest("[hidden]").hidden = false;
  restore();
  show();
})();
