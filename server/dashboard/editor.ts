/**
 * One key: its value in the ways it can be looked at, what is left of its life, and what can be done with it.
 *
 * What is changed is held for a moment in which it can be taken back (`outbox.ts`), and written on the condition that
 * the key is still what it was when it was shown. A single-read key's value is for its taker: it is not shown.
 *
 * @module
 */
import { compareBytes, toHex } from "../../lib/base/bytes.ts";
import { CONTENT, type Content, CONTENT_NAMES, type ContentName } from "../../lib/base/codec.ts";
import type { Deadline, Entry } from "../../lib/engine/engine.ts";
import { milliseconds } from "../../lib/store/bucket.ts";
import { button, element, field, say } from "./dom.ts";
import type { KeyRow } from "./listing.ts";
import { hold } from "./outbox.ts";
import type { Server } from "./server.ts";
import { tree } from "./tree.ts";
import {
  bytesOfDraft,
  draftOf,
  HEX_BYTES_MAX,
  imageType,
  keyBytes,
  keyText,
  type Mode,
  modesOf,
  tryDecode,
} from "./value.ts";
import { bytes, count, dateAndTime, problem, remaining } from "./words.ts";

const MODE_WORDS: Readonly<Record<Mode, string>> = {
  tree: "Tree",
  json: "JSON",
  text: "Text",
  image: "Image",
  hex: "Hex",
};
const DRAFT_MODES: Readonly<Record<ContentName, Mode>> = { cbor: "json", json: "json", text: "text", bytes: "hex" };

/** The panel with one key. */
export class Editor {
  readonly node: HTMLElement = element("section", { class: "panel detail", "aria-label": "Key", hidden: true });
  readonly #server: Server;
  readonly #marked: () => void;
  readonly #wrote: (bucket: string) => void;
  #bucket = "";
  #entry: Entry | undefined;
  #note = element("p", { class: "note", role: "status" });
  #draft: HTMLTextAreaElement | undefined;
  #countdown: { stop(): void } | undefined;
  #image: string | undefined;
  /** How the last value was looked at: the next one is, too, when it can be. */
  #mode: Mode | undefined;

  /** `marked` is called when another key is shown, `wrote` when one was written. */
  constructor(server: Server, marked: () => void, wrote: (bucket: string) => void) {
    this.#server = server;
    this.#marked = marked;
    this.#wrote = wrote;
  }

  /** The key that is shown, as rows name it. */
  get id(): string | undefined {
    return this.#entry && toHex(this.#entry.key);
  }

  isAt(bucket: string | undefined): boolean {
    return this.#bucket === bucket && !this.node.hidden;
  }

  close(): void {
    this.node.hidden = true;
    this.#entry = undefined;
    this.#countdown?.stop();
    this.#marked();
  }

  /** Shows a key as it is now. */
  async show(bucket: string, key: Uint8Array): Promise<void> {
    try {
      // A listing takes nothing, where a get would take a single-read key.
      const { entries: [entry] } = await this.#server.engine.list(bucket, { start: key, limit: 1 });
      if (entry === undefined || compareBytes(entry.key, key) !== 0) return this.#missing(bucket, key);
      this.#bucket = bucket;
      this.#entry = entry;
      this.#fill(entry);
    } catch (error) {
      this.#open(element("p", { class: "empty", text: problem(error) }));
    }
    this.#marked();
  }

  /** A key has changed: says so when it is the one that is shown, or shows it as it is when nothing is being typed. */
  changed(bucket: string, row: KeyRow): void {
    if (!this.isAt(bucket) || row.id !== this.id || row.revision === this.#entry?.revision) return;
    if (row.gone !== undefined) {
      say(this.#note, `This key is gone: ${row.gone || "ended"}. What is written here makes it anew.`);
      this.#entry = { ...this.#entry!, revision: 0 };
    } else if (this.#isTouched()) say(this.#note, `Changed meanwhile: it is at revision ${count(row.revision)} now.`);
    else void this.show(bucket, row.key);
  }

  /** A form for a key that is not there yet. */
  create(bucket: string): void {
    this.#entry = undefined;
    this.#bucket = bucket;
    const input = (properties: object): HTMLInputElement =>
      element("input", { autocomplete: "off", spellcheck: "false", ...properties });
    const place = input({ value: bucket || "default", pattern: "[a-z0-9][a-z0-9_\\-]{0,63}", required: true });
    const key = input({ required: true, placeholder: "ada" });
    const ttl = input({ placeholder: "none, or 30s, 5m, 2h, 7d" });
    const once = element("input", { type: "checkbox" });
    const content = element(
      "select",
      {},
      ...CONTENT_NAMES.map((name) => element("option", { value: name, text: name })),
    );
    const draft = element("textarea", {
      class: "mono",
      rows: 10,
      spellcheck: "false",
      "aria-label": "Value",
      placeholder: "{}",
    });
    const form = element(
      "form",
      { class: "new" },
      field("bucket", place),
      field("key", key),
      field("type", content),
      field("ttl", ttl),
      draft,
      element("label", { class: "check" }, once, "single-read: the first get takes it"),
      element("div", { class: "actions" }, element("button", { class: "primary", text: "Create" })),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const type = CONTENT[content.value as ContentName];
      this.#say(() => {
        const value = bytesOfDraft(draft.value, type, DRAFT_MODES[content.value as ContentName]);
        const deadline = ttl.value.trim() === "" ? undefined : { ttl: milliseconds(ttl.value.trim()) };
        return this.#create(place.value, keyBytes(key.value), value, type, deadline, once.checked);
      });
    });
    this.#open(this.#head("New key", "A bucket is made by its first key"), form);
    this.#marked();
    key.focus();
  }

  // --- what is shown ---

  #missing(bucket: string, key: Uint8Array): void {
    this.#bucket = bucket;
    this.#open(this.#head(keyText(key), `${bucket}, not there any more`));
  }

  #open(...children: HTMLElement[]): void {
    this.#countdown?.stop();
    if (this.#image !== undefined) URL.revokeObjectURL(this.#image);
    this.#image = undefined;
    this.#draft = undefined;
    say(this.#note, "");
    this.node.replaceChildren(...children, this.#note);
    this.node.hidden = false;
  }

  #head(title: string, place: string): HTMLElement {
    return element(
      "div",
      { class: "bar" },
      element(
        "div",
        { class: "title" },
        element("h2", { class: "mono", text: title, title }),
        element("p", { class: "muted", text: place }),
      ),
      button("Close", () => this.close(), { class: "quiet" }),
    );
  }

  #fill(entry: Entry): void {
    const { key, value, content, revision, once } = entry;
    const mayWrite = this.#server.may("write", this.#bucket);
    const size = once === true ? "" : `, ${bytes(value.length)} of ${CONTENT_NAMES[content]}`;
    const body = element("div", { class: "body" });
    const parts: HTMLElement[] = [
      this.#head(keyText(key), `${this.#bucket}, revision ${count(revision)}${size}`),
      this.#life(entry, mayWrite),
    ];
    if (once === true) {
      body.append(element("p", { class: "empty", text: "Single-read: its value is for the one who takes it." }));
    } else parts.push(this.#modes(entry, body));
    parts.push(body);
    if (mayWrite) {
      const actions = element(
        "div",
        { class: "actions" },
        button("Delete", () => void this.#delete(entry), { class: "danger" }),
      );
      const save = button("Save", () => this.#save(entry), { class: "primary", id: "save" });
      save.hidden = true;
      actions.append(save);
      parts.push(actions);
    }
    this.#open(...parts);
    this.#countdown = this.#count(entry);
    const modes = [...this.node.querySelectorAll<HTMLInputElement>(".modes input")];
    (modes.find(({ value: mode }) => mode === this.#mode) ?? modes[0])?.click();
  }

  #modes({ value, content }: Entry, body: HTMLElement): HTMLElement {
    const modes = element("fieldset", { class: "modes", "aria-label": "Shown as" });
    for (const mode of modesOf(value, content)) {
      const radio = element("input", { type: "radio", name: "mode", value: mode });
      radio.addEventListener("click", (event) => {
        // Not by the code that shows the first.
        if (event.isTrusted) this.#mode = mode;
        this.#look(body, mode);
      });
      modes.append(element("label", {}, radio, MODE_WORDS[mode]));
    }
    return element("div", { class: "bar bare" }, modes);
  }

  #look(body: HTMLElement, mode: Mode): void {
    const { value, content } = this.#entry!;
    this.#draft = undefined;
    const save = this.node.querySelector<HTMLElement>("#save");
    if (save !== null) save.hidden = true;
    if (mode === "tree") return body.replaceChildren(tree(tryDecode(value, content)?.value));
    if (mode === "image") {
      this.#image ??= URL.createObjectURL(new Blob([value.slice()], { type: imageType(value)! }));
      return body.replaceChildren(element("img", { src: this.#image, alt: "The value as an image" }));
    }
    const text = draftOf(value, content, mode);
    if (text === undefined) {
      const why = `More than ${bytes(HEX_BYTES_MAX)}: too much to be shown here.`;
      return body.replaceChildren(element("p", { class: "empty", text: why }));
    }
    const draft = element("textarea", {
      class: `mono ${mode}`,
      spellcheck: "false",
      "aria-label": `Value as ${MODE_WORDS[mode]}`,
    });
    draft.value = text;
    draft.dataset["mode"] = mode;
    draft.readOnly = save === null;
    draft.addEventListener("input", () => {
      if (save !== null) save.hidden = draft.value === text;
    });
    this.#draft = draft;
    body.replaceChildren(draft);
  }

  #isTouched(): boolean {
    return this.node.querySelector<HTMLElement>("#save")?.hidden === false ||
      (this.node.querySelector<HTMLInputElement>(".ttl input")?.value ?? "") !== "";
  }

  #life(entry: Entry, mayWrite: boolean): HTMLElement {
    const left = element("b", { class: "left" });
    const life = element("div", { class: "bar bare life" }, element("span", { class: "muted", text: "Expires" }), left);
    if (!mayWrite) return life;
    const ttl = element("input", {
      placeholder: "30s, 5m",
      size: 8,
      "aria-label": "Time to live",
      autocomplete: "off",
    });
    const set = (deadline: () => Deadline | undefined, what: string) => (): void => {
      this.#say(() => {
        const wanted = deadline();
        return hold(`${what} ${keyText(entry.key)}`, async () => {
          const result = await this.#server.engine.touch(this.#bucket, entry.key, wanted);
          if (!result.ok) throw new Error("This key is gone");
          return "";
        });
      });
    };
    const form = element("form", { class: "ttl" }, ttl, element("button", { text: "Set" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      set(() => ({ ttl: milliseconds(ttl.value.trim()) }), "New deadline for")();
      ttl.value = "";
    });
    life.append(element("span", { class: "grow" }), form);
    if (entry.expiresAt !== undefined) {
      life.append(button("Keep", set(() => undefined, "No deadline for"), { class: "quiet" }));
    }
    return life;
  }

  #count({ expiresAt }: Entry): { stop(): void } | undefined {
    const left = this.node.querySelector(".life .left");
    if (left === null) return undefined;
    if (expiresAt === undefined) {
      say(left, "never");
      return undefined;
    }
    left.setAttribute("title", dateAndTime(expiresAt));
    const tick = (): void => say(left, `in ${remaining(expiresAt - this.#server.now())}`);
    tick();
    const timer = setInterval(tick, 200);
    return { stop: () => clearInterval(timer) };
  }

  // --- what is done ---

  /** Runs something that may fail, and says why it did. */
  #say(action: () => Promise<unknown>): void {
    say(this.#note, "");
    try {
      action().catch((error: unknown) => say(this.#note, problem(error)));
    } catch (error) {
      say(this.#note, problem(error));
    }
  }

  async #create(
    bucket: string,
    key: Uint8Array,
    value: Uint8Array,
    content: Content,
    deadline: Deadline | undefined,
    once: boolean,
  ): Promise<void> {
    const options = { content, once, ifRevision: 0, ...(deadline && { deadline }) };
    const sent = await hold(`Create ${bucket}/${keyText(key)}`, async () => {
      const result = await this.#server.engine.set(bucket, key, value, options);
      if (!result.ok) throw new Error(`${bucket}/${keyText(key)} is there already`);
      return "";
    });
    if (!sent) return;
    this.#wrote(bucket);
    await this.show(bucket, key);
  }

  #save(entry: Entry): void {
    const draft = this.#draft;
    if (draft === undefined) return;
    this.#say(async () => {
      const value = bytesOfDraft(draft.value, entry.content, draft.dataset["mode"] as Mode);
      const { expiresAt, content } = entry;
      const bucket = this.#bucket;
      const ifRevision = this.#entry!.revision;
      const sent = await hold(`Save ${bucket}/${keyText(entry.key)}`, async () => {
        const deadline = expiresAt === undefined || ifRevision === 0 ? {} : { deadline: { expiresAt } };
        const result = await this.#server.engine.set(bucket, entry.key, value, { content, ifRevision, ...deadline });
        if (result.ok) return "";
        throw new Error(`Not saved: the key is at revision ${result.current?.revision ?? 0} now. Open it again.`);
      });
      if (sent && this.isAt(bucket)) await this.show(bucket, entry.key);
    });
  }

  async #delete({ key }: Entry): Promise<void> {
    const bucket = this.#bucket;
    const sent = await hold(`Delete ${bucket}/${keyText(key)}`, async () => {
      const result = await this.#server.engine.delete(bucket, key);
      if (!result.ok) throw new Error("This key is gone already");
      return "";
    });
    if (sent && this.isAt(bucket) && this.id === toHex(key)) this.close();
  }
}
