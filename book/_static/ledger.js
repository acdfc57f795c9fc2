// Filters of the ledger of claims, by entries of its columns and by words. Without this script all claims are shown.
"use strict";
(() => {
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // A choice among the entries of the column below a head, or all of them.
  function choice(head, rows) {
    const place = head.cellIndex;
    const entries = new Set(rows.map((row) => row.cells[place].dataset.value));
    const options = [...entries].sort().map((entry) => make("option", { value: entry }, entry));
    const select = make("select", {}, make("option", { value: "" }, "all"), ...options);
    return { label: make("label", {}, head.dataset.choice, select), place, select };
  }

  function addFilters(ledger) {
    const rows = [...ledger.querySelectorAll("tbody tr")];
    const choices = [...ledger.querySelectorAll("th[data-choice]")].map((head) => choice(head, rows));
    const words = make("input", { type: "search" });
    const count = make("output", {});
    const form = make("form", { className: "lkd-filters", autocomplete: "off" },
      ...choices.map(({ label }) => label), make("label", {}, "Words", words),
      make("button", { type: "reset" }, "Show all"), count);
    form.setAttribute("role", "search");
    form.setAttribute("aria-label", "Claims");

    function filter() {
      const wanted = words.value.toLowerCase().split(/\s+/);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word))
          || choices.some(({ place, select }) => select.value && select.value !== row.cells[place].dataset.value);
      }
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
    }

    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    ledger.before(form);
    filter();
  }

  document.querySelectorAll(".lkd-ledger").forEach(addFilters);
})();
