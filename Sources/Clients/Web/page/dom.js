// Small helpers around the document. Text only ever enters through textContent.

export const byId = (id) => document.getElementById(id);

/** Makes an element: node('span', 'time', 'text'). */
export function node(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/** Shows an error's text, or none. */
export function complain(element, text) {
  setText(element, text ?? '');
  show(element, Boolean(text));
}

const TINTS = 8;

/** Colour and initial of somebody without a picture. */
export function paintAvatar(element, id, name) {
  let hash = 0;
  for (const unit of id) hash = (hash * 31 + unit.codePointAt(0)) % 997;
  element.className = `avatar tint-${hash % TINTS}`;
  setText(element, [...name][0]?.toUpperCase() ?? '?');
}

/** Makes a parent's children be these, moving as few as possible. */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}
