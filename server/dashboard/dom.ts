/**
 * Elements, made in code: nothing that comes from the store is ever read as markup.
 *
 * @module
 */

/** What an element is given: attributes, `class`, `text`, and listeners by name. */
export interface Properties {
  readonly class?: string;
  readonly text?: string;
  readonly on?: Readonly<Record<string, (event: never) => void>>;
  readonly [attribute: string]: unknown;
}

/** Makes an element. False and undefined attributes are left out, true ones are empty. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Properties = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") node.textContent = String(value);
    else if (name === "on") listen(node, properties.on!);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== undefined && value !== false) node.setAttribute(name, String(value as string | number));
  }
  node.append(...children);
  return node;
}

function listen(node: HTMLElement, listeners: Readonly<Record<string, (event: never) => void>>): void {
  for (const [type, listener] of Object.entries(listeners)) node.addEventListener(type, listener as EventListener);
}

/** A button. */
export function button(text: string, onClick: () => void, properties: Properties = {}): HTMLButtonElement {
  return element("button", { type: "button", text, on: { click: onClick }, ...properties });
}

/** A labelled field. */
export function field(label: string, input: HTMLElement, className = ""): HTMLLabelElement {
  return element("label", { class: `field ${className}` }, element("span", { text: label }), input);
}

/** Puts text where it is not already: what does not change is not laid out again. */
export function say(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** The element of the page with this id. */
export function byId(id: string): HTMLElement {
  return document.getElementById(id)!;
}

/** Resolves after so many milliseconds. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** A dialog that asks; resolves true when the answer is yes. */
export function confirmed(question: string, yes: string): Promise<boolean> {
  return new Promise((resolve) => {
    const dialog = element("dialog", { class: "panel ask", "aria-label": question });
    const answer = (value: boolean) => () => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    dialog.append(
      element("p", { text: question }),
      element(
        "div",
        { class: "actions" },
        button("Cancel", answer(false), { class: "quiet" }),
        button(yes, answer(true), { class: "danger" }),
      ),
    );
    dialog.addEventListener("cancel", answer(false));
    document.body.append(dialog);
    dialog.showModal();
  });
}
