// The serious faults of a page that axe-core would name, as far as they can be found by looking: a list of sentences.
(() => {
  const faults = [];
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  const seen = (element) => element.getClientRects().length > 0 && getComputedStyle(element).visibility !== "hidden";
  const say = (fault, element) => faults.push(`${fault}: ${element.outerHTML.slice(0, 100)}`);
  const nameOf = (element) => (element.getAttribute("aria-label") ?? element.textContent).trim();
  const ids = new Set();
  for (const element of all("[id]")) {
    if (ids.has(element.id)) say("an id twice", element);
    ids.add(element.id);
  }
  if (!document.documentElement.lang) faults.push("no language");
  if (!document.title) faults.push("no title");
  if (all("main").length !== 1 || all("h1").length !== 1) faults.push("not one main and one h1");
  for (const image of all("img")) if (!image.alt) say("no alternative text", image);
  for (const input of all("input, select, textarea")) if (!input.labels.length) say("no label", input);
  for (const each of all("a[href], button, summary, nav, [role=region]")) if (!nameOf(each)) say("no name", each);
  for (const link of all("a[href^='#']")) {
    if (!ids.has(decodeURIComponent(link.hash.slice(1)))) say("a link to nowhere", link);
  }
  for (const table of all("table")) if (!table.querySelector("th[scope]")) say("no headings", table);
  for (const list of all("ul, ol")) {
    for (const item of list.children) if (item.tagName !== "LI") say("not an item of a list", item);
  }
  let level = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) say(`a heading ${own} behind a heading ${level}`, heading);
    level = own;
  }
  for (const box of all("*")) {
    const overflow = getComputedStyle(box).overflowX;
    const scrolls = (overflow === "auto" || overflow === "scroll") && box.scrollWidth > box.clientWidth + 1;
    if (scrolls && box.tabIndex < 0 && !box.querySelector("a, button, input")) say("scrolls, but not by keys", box);
  }
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const brightness = (colour) => numbers(colour).slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  for (const element of all("body *")) {
    const own = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !seen(element) || element.tagName === "SCRIPT") continue;
    const [a, b] = [brightness(getComputedStyle(element).color), brightness(ground(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) say(`a contrast of ${contrast.toFixed(2)}`, element);
  }
  return faults;
})()
