"use strict";
// Sorting: a click on a header's button sorts by the cells' data-value, absent ones last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[head.cellIndex].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    });
    body.append(...rows);
    document.getElementById("sorted").textContent =
      `Sorted by ${button.textContent.trim()}, ${up ? "ascending" : "descending"}`;
  });
}
// Values under the pointer, in place of the browser's own slow tooltips.
const tip = document.getElementById("tip");
for (const mark of document.querySelectorAll(".tip")) {
  const title = mark.querySelector("title"), text = title.textContent;
  title.remove();
  const chart = mark.closest("svg"), curve = mark.closest("[data-tips]")?.dataset.tips;
  const lines = chart.querySelectorAll(`[data-curve="${curve}"]`);
  mark.addEventListener("pointerenter", event => {
    tip.textContent = text;
    tip.hidden = false;
    const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${Math.max(event.clientY - tip.offsetHeight - 12, 4)}px`;
    chart.classList.toggle("focus", lines.length > 0);
    for (const line of lines) line.classList.add("on");
  });
  mark.addEventListener("pointerleave", () => {
    tip.hidden = true;
    chart.classList.remove("focus");
    for (const line of lines) line.classList.remove("on");
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
