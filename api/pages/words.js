// Figures, spans of time and elements: how the dashboard says what it was told.
// What comes from outside goes in as text, never as HTML.

export const number = new Intl.NumberFormat("en");
export const rough = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const many = (count, one, more = `${one}s`) => `${number.format(count)} ${count === 1 ? one : more}`;

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

export const tag = (text, kind) => make("span", { class: `tag ${kind}` }, text);
export const keyOf = (uri) => uri.replace(/^s3:\/\//, "");
export const nameOf = (uri) => keyOf(uri).split("/").at(-1) || keyOf(uri);
export const folderOf = (uri) => keyOf(uri).slice(0, -nameOf(uri).length).replace(/\/$/, "");

// Lines that stay are changed in place: a button that has the focus keeps it.
export function fill(list, items, build, id = (item) => item.id) {
  const known = new Map([...list.children].map((child) => [child.dataset.id, child]));
  items.forEach((item, place) => {
    const fresh = build(item), there = known.get(id(item));
    let line = fresh;
    if (there) {
      known.delete(id(item));
      line = there;
      if (fresh.innerHTML !== there.innerHTML) { // compared only
        const focused = there.contains(document.activeElement);
        there.replaceChildren(...fresh.childNodes);
        if (focused) there.querySelector("button")?.focus();
      }
    }
    line.dataset.id = id(item);
    if (list.children[place] !== line) list.insertBefore(line, list.children[place] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}
