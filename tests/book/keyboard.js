// Prepares a walk through a page by Tab: `walk.stop()` tells where the focus is and what is wrong there, `walk.missed()`
// which controls it has not been at. Controls that come and go on the way, as the theme's contents do, need not be reached.
(() => {
  const CONTROLS = "a[href], button, input, select, summary, textarea, [tabindex='0'], .lkd-scroll";
  const MARKS = ["outlineStyle", "outlineWidth", "boxShadow", "borderColor", "backgroundColor", "textDecorationLine"];

  const name = (element) => element.outerHTML.replace(/\s+/g, " ").slice(0, 150);
  const isThere = (element) =>
    element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !element.disabled;
  const look = (element) => {
    const style = getComputedStyle(element);
    return MARKS.map((mark) => style[mark]).join();
  };
  const isInWindow = (element) => {
    const { top, right, bottom, left } = element.getBoundingClientRect();
    return bottom > 0 && right > 0 && top < innerHeight && left < innerWidth && bottom > top && right > left;
  };

  const unfocused = new Map([...document.querySelectorAll(CONTROLS)].filter(isThere).map((each) => [each, look(each)]));
  const stops = [];

  function stop() {
    const element = document.activeElement;
    if (element === document.body) return null;
    const faults = [];
    if (!isThere(element) || !isInWindow(element) || look(element) === unfocused.get(element)) faults.push("focus not seen");
    if (stops.at(-1)?.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_PRECEDING) faults.push("out of order");
    if (!stops.includes(element)) stops.push(element);
    return { place: stops.indexOf(element), name: name(element), faults };
  }

  const missed = () => [...unfocused.keys()].filter((each) => isThere(each) && !stops.includes(each)).map(name);

  window.walk = { stop, missed };
})();
