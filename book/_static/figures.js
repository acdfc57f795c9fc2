// Draws the Plotly figures of a page when they come into view, in the colours of the page's theme, and saves them for
// a talk.
"use strict";
(() => {
  const library = new URL("plotly.min.js", document.currentScript.src);
  const figures = [...document.querySelectorAll(".lkd-figure")];
  if (!figures.length) return;

  const CLEAR = "rgba(0,0,0,0)";
  const NARROW = 600;
  const PRINT_WIDTH = 640;
  const SLIDE = { width: 1600, height: 900, enlarged: 2, squeezed: 0.75 }; // pixels; most that type grows, least height
  const INK_ON_WHITE = { ink: "#1a1a1a", line: "#5a5a5a", grid: "#dddddd", dark: false };
  const root = document.documentElement;
  const plots = new Map(); // target element -> layout as the page gave it
  const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => target.offsetParent && fit(target)));

  const element = (kind, content) => Object.assign(document.createElement(kind), content);
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--pst-color-${name}`).trim();
  const colours = () => {
    const [ink, line, grid] = ["text-base", "text-muted", "border-muted"].map(colour);
    return { ink, line, grid, dark: root.dataset.theme === "dark" };
  };

  // The parts of a layout that depend on the theme and the width of the page. Names with dots are paths, as in
  // Plotly.relayout.
  function look(layout, width, { ink, line, grid, dark }) {
    const { data = {}, layout: given = {} } = layout.template ?? {};
    const axis = { gridcolor: grid, zerolinecolor: line, linecolor: line, tickcolor: line };
    const narrow = width < NARROW && {
      legend: { ...given.legend, orientation: "h", x: 0, y: -0.25, yanchor: "top" },
      margin: { ...given.margin, l: 48, r: 12 },
    };
    return {
      paper_bgcolor: CLEAR,
      plot_bgcolor: CLEAR,
      font: { ...layout.font, color: ink, family: getComputedStyle(document.body).fontFamily },
      modebar: { bgcolor: CLEAR, color: line, activecolor: ink },
      ...(layout.coloraxis && { "coloraxis.reversescale": dark && !layout.images }),
      template: {
        data: { ...data, bar: [{ ...data.bar?.[0], error_x: { color: ink }, error_y: { color: ink } }] },
        layout: {
          ...given,
          ...narrow,
          xaxis: { ...given.xaxis, ...axis },
          yaxis: { ...given.yaxis, ...axis },
          annotationdefaults: { ...given.annotationdefaults, arrowcolor: ink },
          shapedefaults: { ...given.shapedefaults, line: { color: line } },
        },
      },
    };
  }

  const axes = (layout, letter) => Object.keys(layout).filter((key) => RegExp(`^${letter}axis\\d*$`).test(key));

  // The places of a figure's panels, which `lkd.figures` describes in `layout.meta.panels`: as they are, or, in a
  // narrow window, fewer beside each other and of the same height.
  function arrangement(layout, width) {
    const { columns, narrow, gap } = layout.meta?.panels ?? {};
    if (!columns || narrow === columns) return {};
    const panels = axes(layout, "x").map((x) => [x, x.replace("x", "y")]);
    const { t, b } = layout.margin;
    const across = width < NARROW ? narrow : columns;
    const rows = (wide) => Math.ceil(panels.length / wide);
    const space = (height, wide) => rows(wide) * height + (rows(wide) - 1) * gap;
    const inner = layout.height - t - b;
    const each = (inner - (rows(columns) - 1) * gap) / rows(columns);
    const changed = { height: space(each, across) + t + b };
    const { colorbar } = layout.coloraxis ?? {};
    const heading = panels.map(([x]) => layout[x].title?.text).find(Boolean) ?? "";
    if (colorbar) changed["coloraxis.colorbar.y"] = (colorbar.y * inner) / space(each, across);
    panels.forEach(([x, y], place) => {
      const [row, column] = [Math.floor(place / across), place % across];
      const top = 1 - (row * (each + gap)) / space(each, across);
      const moved = across < columns;
      const left = column / across;
      const right = left + (across > 1 ? 0.96 : 1) / across;
      changed[`${x}.domain`] = moved ? [left, right] : layout[x].domain;
      changed[`${y}.domain`] = moved ? [Math.max(0, top - each / space(each, across)), top] : layout[y].domain;
      for (const key of [x, y]) changed[`${key}.showticklabels`] = moved || (layout[key].showticklabels ?? true);
      const title = layout[x].title?.text ?? "";
      changed[`${x}.title.text`] = moved ? (place === panels.length - 1 ? heading : "") : title;
    });
    return changed;
  }

  // A layout with changes, of which the names with dots are paths.
  function changed(layout, changes) {
    const whole = structuredClone(layout);
    for (const [path, value] of Object.entries(changes)) {
      const [last, ...parents] = path.split(".").reverse();
      parents.reverse().reduce((part, key) => (part[key] ??= {}), whole)[last] = value;
    }
    return whole;
  }

  // A figure's slider as one of the page: Plotly's own cannot be moved by keys.
  function slide(target, { active, currentvalue, steps }) {
    const range = element("input", { type: "range", min: 0, max: steps.length - 1, value: active });
    const said = element("output");
    const label = element("label", { className: "lkd-slider" });
    label.append(currentvalue.prefix, range, said);
    const say = () => {
      said.textContent = steps[range.value].label;
      range.setAttribute("aria-valuetext", said.textContent);
    };
    range.addEventListener("input", () => {
      const { method, args } = steps[range.value];
      Plotly[method](target, ...args);
      say();
    });
    target.after(label);
    say();
  }

  // A figure's views as buttons of the page, for the same reason.
  function choose(target, { buttons }) {
    const group = element("div", { className: "lkd-buttons" });
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "View of the figure");
    group.append(...buttons.map(({ label, method, args }, place) => {
      const button = element("button", { type: "button", textContent: label, ariaPressed: String(!place) });
      button.addEventListener("click", () => {
        for (const each of group.children) each.ariaPressed = String(each === button);
        Plotly[method](target, ...structuredClone(args));
      });
      return button;
    }));
    target.before(group);
  }

  function offerToSave(figure, target) {
    const group = element("div", { className: "lkd-buttons" });
    group.append("Save for a talk:", ...["SVG", "PNG"].map((kind) => {
      const button = element("button", { type: "button", textContent: kind });
      button.setAttribute("aria-label", `Save figure ${figures.indexOf(figure) + 1} as ${kind}`);
      button.addEventListener("click", () => save(target, kind.toLowerCase(), figure.dataset.name));
      return button;
    }));
    figure.insertBefore(group, figure.querySelector("details"));
  }

  // Saves what is seen, in ink on white with its caption, at the size of a slide.
  function save(target, format, filename) {
    const given = plots.get(target);
    const { width: _, ...seen } = target.layout;
    const { t = 30, b = 80, ...sides } = seen.margin ?? {};
    const caption = seen.title?.text ? "" : (given.meta?.caption ?? ""); // its place is that of a title
    const lines = (width) => lined(caption, width / 6.5);
    const below = 20 + 17 * lines(SLIDE.width / SLIDE.enlarged).length;
    const least = SLIDE.squeezed * (given.height ?? target.clientHeight) + below;
    const scale = Math.min(SLIDE.enlarged, SLIDE.height / least);
    const size = { width: SLIDE.width / scale, height: SLIDE.height / scale };
    const place = { x: 0.02, xanchor: "left", yref: "container", y: 0.02, yanchor: "bottom", font: { size: 13 } };
    const layout = changed(seen, {
      ...look(given, SLIDE.width, INK_ON_WHITE),
      ...arrangement(given, SLIDE.width),
      ...size,
      ...(caption && { title: { text: lines(size.width).join("<br>"), ...place } }),
      paper_bgcolor: "#ffffff",
      margin: { ...sides, l: 24, r: Math.max(sides.r ?? 0, 24), t: t + 14, b: b + below },
    });
    return Plotly.downloadImage({ data: target.data, layout }, { format, filename, scale, ...size });
  }

  // The lines of a text, without markup.
  function lined(text, length) {
    const lines = text.match(RegExp(`.{1,${Math.floor(length)}}( |$)`, "g")) ?? [];
    return lines.map((line) => line.trim().replace(/[&<>]/g, (mark) => `&#${mark.charCodeAt(0)};`));
  }

  const isDrawn = (figure) => plots.has(figure.querySelector(".lkd-plot"));
  const drawOnce = (figure) => isDrawn(figure) || draw(figure);

  async function draw(figure) {
    const target = figure.querySelector(".lkd-plot");
    const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
    const { sliders = [], updatemenus = [], ...rest } = layout;
    plots.set(target, rest);
    const width = target.clientWidth;
    const shown = changed(rest, { ...look(rest, width, colours()), ...arrangement(rest, width) });
    target.dataset.narrow = width < NARROW;
    const config = { displaylogo: false, showSendToCloud: false, modeBarButtonsToRemove: ["toImage"] };
    if (matchMedia("(pointer: coarse)").matches) { // a finger that drags wants to scroll the page
      shown.dragmode = false;
      config.displayModeBar = false;
    }
    await Plotly.react(target, data, shown, config);
    target.querySelectorAll("svg.main-svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
    if (!target.dataset.drawn) {
      sliders.forEach((slider) => slide(target, slider));
      updatemenus.forEach((menu) => choose(target, menu));
      offerToSave(figure, target);
    }
    target.dataset.drawn = "true";
    resized.observe(target);
  }

  // Fits a plot to its box; its panels move where the box has become narrow or wide.
  async function fit(target) {
    const narrow = String(target.clientWidth < NARROW);
    if (narrow !== target.dataset.narrow) {
      target.dataset.narrow = narrow;
      await Plotly.relayout(target, arrangement(plots.get(target), target.clientWidth));
    }
    return Plotly.Plots.resize(target);
  }

  function relayout(change) {
    for (const [target, layout] of plots) Plotly.relayout(target, change(layout, target));
  }

  function drawInView() {
    if (!("IntersectionObserver" in window)) return figures.forEach(drawOnce);
    const seen = (entries) => entries.forEach((entry) => entry.isIntersecting && drawOnce(entry.target));
    const observer = new IntersectionObserver(seen, { rootMargin: "300px" });
    figures.forEach((figure) => observer.observe(figure));
  }

  function start() {
    drawInView();
    // A page's own script may change the JSON of a figure, and says so with this event.
    document.addEventListener("lkd-change", ({ target }) => isDrawn(target) && draw(target));
    new MutationObserver(() => relayout((layout, target) => look(layout, target.clientWidth, colours())))
      .observe(root, { attributeFilter: ["data-theme"] });
    addEventListener("beforeprint", () => {
      figures.forEach(drawOnce);
      relayout(() => ({ width: PRINT_WIDTH }));
    });
    addEventListener("afterprint", () => relayout(({ width = null }) => ({ width, autosize: !width })));
  }

  // Without Plotly the numbers are still there: show them.
  function unfold() {
    console.error(`${library} cannot be loaded: figures are shown as tables`);
    for (const figure of figures) {
      figure.querySelector(".lkd-plot").hidden = true;
      figure.querySelector(".lkd-data")?.setAttribute("open", "");
    }
  }

  const script = document.createElement("script");
  script.src = library;
  script.onload = start;
  script.onerror = unfold;
  document.head.append(script);
})();
