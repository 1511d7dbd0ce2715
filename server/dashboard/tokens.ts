/**
 * The tokens of clients: what is known of each, a new one, which is shown once, and the end of one.
 *
 * @module
 */
import { button, confirmed, element, field, say } from "./dom.ts";
import type { Right, Server } from "./server.ts";
import { Table } from "./table.ts";
import { count, dateAndTime, problem } from "./words.ts";

const RIGHTS: readonly Right[] = ["read", "write", "subscribe", "admin"];
const LIVES = [["1h", "an hour"], ["1d", "a day"], ["30d", "30 days"], ["365d", "a year"], ["", "no end"]] as const;

interface Scope {
  readonly buckets: string;
  readonly rights: readonly Right[];
}

interface TokenInfo {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: number;
  readonly expiresAt?: number;
}

/** The view. */
export class TokensView {
  readonly node: HTMLElement;
  readonly #server: Server;
  readonly #shown = element("span", { class: "muted", role: "status" });
  readonly #note = element("output", { class: "note" });
  readonly #table: Table<TokenInfo>;
  readonly #name = element("input", { required: true, placeholder: "web", maxlength: 64, autocomplete: "off" });
  readonly #scopes = element("div", { class: "scopes" });
  readonly #life = element("select", {}, ...LIVES.map(([value, text]) => element("option", { value, text })));

  constructor(server: Server) {
    this.#server = server;
    this.#life.value = "30d";
    this.#table = new Table<TokenInfo>(
      "Tokens",
      [
        { title: "Name", text: ({ name }) => name, class: "strong" },
        { title: "Id", text: ({ id }) => id, class: "mono" },
        { title: "May", text: ({ scopes }) => scopes.map(wordsOf).join("\n"), class: "mono lines" },
        { title: "Created", text: ({ createdAt }) => dateAndTime(createdAt), class: "time" },
        { title: "Ends", text: ({ expiresAt }) => this.#endOf(expiresAt), class: "time" },
      ],
      ({ id }) => id,
      (token) => [button("Revoke", () => void this.#revoke(token), { class: "danger small" })],
    );
    const form = element(
      "form",
      { class: "new" },
      field("name", this.#name),
      field("good for", this.#life),
      this.#scopes,
      element(
        "div",
        { class: "actions" },
        button("Another scope", () => this.#addScope(), { class: "quiet" }),
        element("button", { class: "primary", text: "Create" }),
      ),
      this.#note,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#create();
    });
    this.#addScope();
    this.node = element(
      "div",
      { class: "tokens" },
      element(
        "section",
        { class: "panel", "aria-label": "Tokens" },
        element("div", { class: "bar" }, element("h2", { text: "Tokens" }), this.#shown),
        this.#table.node,
      ),
      element(
        "section",
        { class: "panel", "aria-label": "New token" },
        element("div", { class: "bar" }, element("h2", { text: "New token" })),
        form,
      ),
    );
  }

  enter(): void {
    void this.#ask();
  }

  leave(): void {}

  async #ask(): Promise<void> {
    try {
      const { tokens } = await this.#server.ask<{ tokens: TokenInfo[] }>("/v1/admin/tokens");
      this.#table.show(tokens);
      say(this.#shown, `${count(tokens.length)} that may come in`);
    } catch (error) {
      say(this.#shown, problem(error));
    }
  }

  #endOf(expiresAt: number | undefined): string {
    if (expiresAt === undefined) return "never";
    return expiresAt <= this.#server.now() ? "over" : dateAndTime(expiresAt);
  }

  /** One more row of rights in buckets; only rights that who asks can hand on. */
  #addScope(): void {
    const buckets = element("input", {
      required: true,
      value: "*",
      "aria-label": "Buckets",
      class: "mono",
      pattern: "\\*|[a-z0-9][a-z0-9_\\-]{0,63}\\*?",
    });
    const rights = RIGHTS.filter((right) => this.#server.mayAnywhere(right)).map((right) => {
      const box = element("input", { type: "checkbox", value: right, checked: right === "read" });
      return element("label", { class: "check" }, box, right);
    });
    const scope = element(
      "div",
      { class: "scope" },
      field("in", buckets),
      element("fieldset", { "aria-label": "Rights" }, ...rights),
    );
    if (this.#scopes.childElementCount > 0) {
      scope.append(button("Remove", () => scope.remove(), { class: "quiet small" }));
    }
    this.#scopes.append(scope);
  }

  async #create(): Promise<void> {
    const scopes = [...this.#scopes.children].map((scope) => ({
      buckets: scope.querySelector("input")!.value,
      rights: [...scope.querySelectorAll<HTMLInputElement>("[type=checkbox]:checked")].map(({ value }) => value),
    }));
    const ttl = this.#life.value;
    try {
      say(this.#note, "");
      const { token } = await this.#server.ask<{ token: string }>("/v1/admin/tokens", {
        method: "POST",
        body: { name: this.#name.value, scopes, ...(ttl !== "" && { ttl }) },
      });
      this.#showOnce(this.#name.value, token);
      this.#name.value = "";
      await this.#ask();
    } catch (error) {
      say(this.#note, problem(error));
    }
  }

  #showOnce(name: string, token: string): void {
    const value = element("code", { class: "mono secret", id: "new-token", text: token });
    const copy = button("Copy", () => {
      navigator.clipboard.writeText(token).then(() => say(copy, "Copied"), () => say(copy, "Select it and copy"));
    }, { class: "primary" });
    const dialog = element(
      "dialog",
      { class: "panel ask", "aria-label": `The token ${name}` },
      element("h2", { text: `The token ${name}` }),
      element("p", { text: "It is shown this once: nobody, not even the server, can tell it again." }),
      value,
      element("div", { class: "actions" }, copy, button("Done", () => dialog.close(), { class: "quiet" })),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  async #revoke({ id, name }: TokenInfo): Promise<void> {
    if (!await confirmed(`Revoke ${name}? Its connections are closed, and it lets nobody in again.`, "Revoke")) return;
    try {
      await this.#server.ask(`/v1/admin/tokens/${id}`, { method: "DELETE" });
    } catch (error) {
      say(this.#note, problem(error));
    }
    await this.#ask();
  }
}

function wordsOf({ buckets, rights }: Scope): string {
  return `${buckets}: ${rights.join(", ")}`;
}
