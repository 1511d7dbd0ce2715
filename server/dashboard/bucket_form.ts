/**
 * A bucket's settings, asked for in a dialog: for one that is there, or for a new one.
 *
 * @module
 */
import type { BucketSettings } from "../../lib/engine/settings.ts";
import { button, element, field, say } from "./dom.ts";
import type { Server } from "./server.ts";
import { duration, problem } from "./words.ts";

const NAME = "[a-z0-9][a-z0-9_\\-]{0,63}";
const DURATION = "\\d+(\\.\\d+)?(ms|s|m|h|d)";

/** A bucket that is there, as it was shown. */
export interface KnownBucket {
  readonly name: string;
  readonly settings?: BucketSettings;
  /** Of the settings, so that none are replaced unseen; absent when there is no such bucket yet. */
  readonly etag?: string;
}

/** Asks, and sends the answer; resolves to the bucket's name, or undefined when nothing was to be changed. */
export function askSettings(server: Server, bucket?: KnownBucket): Promise<string | undefined> {
  return new Promise((resolve) => new SettingsForm(server, bucket, resolve).open());
}

class SettingsForm {
  readonly #server: Server;
  readonly #bucket: KnownBucket | undefined;
  readonly #done: (bucket: string | undefined) => void;
  readonly #dialog: HTMLDialogElement;
  readonly #note = element("p", { class: "note", role: "status" });
  readonly #name = text({ required: true, pattern: NAME, placeholder: "sessions" });
  readonly #ttl = text({ pattern: DURATION, placeholder: "for ever; or 30s, 5m, 7d" });
  readonly #most = element("input", { type: "number", min: 1, step: 1, placeholder: "what the server takes" });
  readonly #compression = element("input", { type: "checkbox" });
  readonly #description = element("input", { maxlength: 200, placeholder: "a line for people" });

  constructor(server: Server, bucket: KnownBucket | undefined, done: (bucket: string | undefined) => void) {
    const before = bucket?.settings ?? {};
    this.#server = server;
    this.#bucket = bucket;
    this.#done = done;
    this.#ttl.value = before.ttl === undefined ? "" : duration(before.ttl);
    this.#most.value = String(before.valueBytesMax ?? "");
    this.#compression.checked = before.compression !== false;
    this.#description.value = before.description ?? "";
    const title = bucket === undefined ? "New bucket" : `Settings of ${bucket.name}`;
    const save = element("button", { class: "primary", text: bucket === undefined ? "Create" : "Save" });
    const form = element(
      "form",
      {},
      element("h2", { text: title }),
      ...(bucket === undefined ? [field("name", this.#name)] : []),
      field("keys live for", this.#ttl),
      field("largest value, bytes", this.#most),
      field("description", this.#description),
      element("label", { class: "check" }, this.#compression, "compress long values"),
      element("p", { class: "muted", text: "For what is set from now on, by whoever sets it. A ttl of its own wins." }),
      this.#note,
      element("div", { class: "actions" }, button("Cancel", () => this.#end(undefined), { class: "quiet" }), save),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#send();
    });
    this.#dialog = element("dialog", { class: "panel ask settings", "aria-label": title }, form);
    this.#dialog.addEventListener("cancel", () => this.#end(undefined));
  }

  open(): void {
    document.body.append(this.#dialog);
    this.#dialog.showModal();
  }

  #end(bucket: string | undefined): void {
    this.#dialog.close();
    this.#dialog.remove();
    this.#done(bucket);
  }

  async #send(): Promise<void> {
    const name = this.#bucket?.name ?? this.#name.value;
    const etag = this.#bucket?.etag;
    const headers: Record<string, string> = etag === undefined ? { "if-none-match": "*" } : { "if-match": etag };
    const body = {
      ...(this.#ttl.value !== "" && { ttl: this.#ttl.value }),
      ...(this.#most.value !== "" && { valueBytesMax: Number(this.#most.value) }),
      ...(!this.#compression.checked && { compression: false }),
      ...(this.#description.value !== "" && { description: this.#description.value }),
    };
    try {
      await this.#server.ask(`/v1/admin/buckets/${name}`, { method: "PUT", body, headers });
      this.#end(name);
    } catch (error) {
      say(this.#note, problem(error));
    }
  }
}

function text(properties: Readonly<Record<string, unknown>>): HTMLInputElement {
  return element("input", { class: "mono", autocomplete: "off", spellcheck: "false", ...properties });
}
