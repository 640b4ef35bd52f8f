/** Small helpers around the page's elements. */

/** The element with this id; the page's HTML must have it. */
export function byId<T extends HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page must have an element with this id. Received: ${id}.`);
  return element as T;
}

type Child = Node | string;

/** A new element with attributes and children; strings become text. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A definition list of names and values. */
export function definitions(className: string, rows: readonly (readonly [string, string])[]): HTMLDListElement {
  const list = make("dl", { class: className });
  for (const [name, value] of rows) {
    list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  }
  return list;
}
