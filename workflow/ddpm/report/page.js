"use strict";

// Watch it happen: the slider says which frame all windows show.
for (const viewer of document.querySelectorAll(".watch")) {
  const slider = viewer.querySelector("input");
  const play = viewer.querySelector("button");
  const times = slider.dataset.times.split(" ");
  let timer = null;
  const show = () => {
    const told = `t = ${times[slider.value]}`;
    viewer.style.setProperty("--frame", slider.value);
    viewer.querySelector("output").textContent = told;
    slider.setAttribute("aria-valuetext", `${told} of ${times[0]}`);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  const step = () => {
    slider.value = Number(slider.value) + 1;
    show();
    if (slider.value === slider.max) stop();
  };
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "Stop";
    timer = setInterval(step, 120);
    show();
  });
  play.hidden = false;
  show();
}

// Tables sort by the column whose heading is pressed.
const textOf = (cell) => {
  const copy = cell.cloneNode(true);
  copy.querySelectorAll("sup").forEach((mark) => mark.remove());
  return copy.textContent.replace("≤", "").replace("−", "-").replaceAll(",", "").trim();
};
const compare = (one, other) => {
  const [a, b] = [Number.parseFloat(one), Number.parseFloat(other)];
  return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other) : a - b;
};
// A cell over several rows stands in each of them once they may part.
const partRows = (body) => {
  for (const row of body.rows) {
    for (const cell of row.cells) {
      const below = Array.from(body.rows).slice(row.sectionRowIndex + 1, row.sectionRowIndex + cell.rowSpan);
      const place = cell.cellIndex;
      cell.rowSpan = 1;
      if (cell.scope === "rowgroup") cell.scope = "row";
      for (const other of below) other.insertBefore(cell.cloneNode(true), other.cells[place] ?? null);
    }
  }
};
const sortBy = (table, head) => {
  const column = Number(head.dataset.column ?? head.cellIndex);
  const descending = head.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  partRows(body);
  const rows = Array.from(body.rows, (row) => [textOf(row.cells[column]), row]);
  const empty = (text) => text === "" || text === "–";
  rows.sort(([a], [b]) => empty(a) - empty(b) || (descending ? compare(b, a) : compare(a, b)));
  body.append(...rows.map(([, row]) => row));
  table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
};
for (const table of document.querySelectorAll("table.results, table.sortable")) {
  for (const head of table.querySelectorAll('thead th[scope="col"]')) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, head));
    head.append(button);
  }
}

// A link into something folded unfolds it.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let above = target; above; above = above.parentElement) if (above.tagName === "DETAILS") above.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();

// The navigation marks the section that is read.
const links = new Map(Array.from(document.querySelectorAll("nav a"), (link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("main > section").forEach((section) => seen.observe(section));
