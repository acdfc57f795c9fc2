// Draws the Plotly figures of a page when they come into view, in the colours of the page's theme.
"use strict";
(() => {
  const library = new URL("plotly.min.js", document.currentScript.src);
  const figures = [...document.querySelectorAll(".lkd-figure")];
  if (!figures.length) return;

  const CLEAR = "rgba(0,0,0,0)";
  const NARROW = 600;
  const PRINT_WIDTH = 640;
  const root = document.documentElement;
  const plots = new Map(); // target element -> layout as the page gave it
  const resized = new ResizeObserver((entries) =>
    entries.forEach(({ target }) => target.offsetParent && Plotly.Plots.resize(target)));

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--pst-color-${name}`).trim();

  // The parts of a layout that depend on the theme and the width of the page.
  function look(layout, width) {
    const { data = {}, layout: given = {} } = layout.template ?? {};
    const [ink, line, grid] = ["text-base", "text-muted", "border-muted"].map(colour);
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

  // A figure's slider as one of the page: Plotly's own cannot be moved by keys.
  function slide(target, { active, currentvalue, steps }) {
    const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: steps.length - 1, value: active });
    const said = document.createElement("output");
    const label = document.createElement("label");
    label.className = "lkd-slider";
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

  const isDrawn = (figure) => plots.has(figure.querySelector(".lkd-plot"));
  const drawOnce = (figure) => isDrawn(figure) || draw(figure);

  async function draw(figure) {
    const target = figure.querySelector(".lkd-plot");
    const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
    plots.set(target, layout);
    const { sliders = [], ...rest } = layout;
    const shown = { ...rest, ...look(layout, target.clientWidth) };
    const config = { displaylogo: false, showSendToCloud: false }; // nothing leaves the page
    if (matchMedia("(pointer: coarse)").matches) { // a finger that drags wants to scroll the page
      shown.dragmode = false;
      config.displayModeBar = false;
    }
    await Plotly.react(target, data, shown, config);
    target.querySelectorAll("svg.main-svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
    if (!target.dataset.drawn) sliders.forEach((slider) => slide(target, slider));
    target.dataset.drawn = "true";
    resized.observe(target);
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
    new MutationObserver(() => relayout((layout, target) => look(layout, target.clientWidth)))
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
      figure.querySelector("details")?.setAttribute("open", "");
    }
  }

  const script = document.createElement("script");
  script.src = library;
  script.onload = start;
  script.onerror = unfold;
  document.head.append(script);
})();
