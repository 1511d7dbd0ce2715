/**
 * Who is connected: by which token, from where, what each has subscribed to, how far behind it is,
 * and what waits for it.
 *
 * @module
 */
import type { ClientList, ClientSubscription, ListedClient } from "../clients.ts";
import { button, confirmed, element, say } from "./dom.ts";
import type { Server } from "./server.ts";
import { Table } from "./table.ts";
import { bytes, count, counted, problem, span } from "./words.ts";

const EVERY_MS = 1_000;

interface Answer extends ClientList {
  /** Of the store. */
  readonly revision: number;
}

/** What each protocol is called. */
const KINDS = { websocket: "WebSocket", events: "Event stream", redis: "Redis" } as const;

/** The view. */
export class ClientsView {
  readonly node: HTMLElement;
  readonly #server: Server;
  readonly #shown = element("span", { class: "muted", role: "status", id: "clients-shown" });
  readonly #table: Table<ListedClient>;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** An answer is awaited: a server that is slow to give it is not asked again. */
  #isAsking = false;
  /** The last revision of the store. */
  #revision = 0;

  constructor(server: Server) {
    this.#server = server;
    this.#table = new Table<ListedClient>(
      "Clients",
      [
        { title: "Name", text: ({ name }) => [name], class: "strong cut" },
        { title: "By", text: ({ kind }) => KINDS[kind] },
        {
          title: "From",
          text: ({ address, agent }) => [[address, programOf(agent)].filter(Boolean).join(" · ")],
          class: "mono cut",
        },
        { title: "Open for", text: ({ ageMs }) => span(ageMs) },
        {
          title: "Subscriptions",
          text: topicsOf,
          class: "mono cut rest",
        },
        {
          title: "Behind",
          text: ({ subscriptions }) => {
            const lines = subscriptions.map((one) => this.#behind(one));
            return lines.some((line) => line !== "") ? lines : [];
          },
          class: "number cut",
        },
        { title: "Waiting", text: ({ bufferedBytes }) => bytes(bufferedBytes), class: "number" },
        {
          title: "Received, sent",
          text: ({ bytesIn, bytesOut }) => `${bytes(bytesIn)}, ${bytes(bytesOut)}`,
          class: "number",
        },
      ],
      ({ id }) => id,
      (client) => [button("Close", () => void this.#close(client), { class: "danger small" })],
    );
    this.node = element(
      "section",
      { class: "panel clients", "aria-label": "Clients" },
      element("div", { class: "bar" }, element("h2", { text: "Clients" }), this.#shown),
      this.#table.node,
    );
  }

  enter(): void {
    void this.#ask();
    this.#timer = setInterval(() => {
      if (!document.hidden) void this.#ask();
    }, EVERY_MS);
  }

  leave(): void {
    clearInterval(this.#timer);
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      const { clients, total, revision } = await this.#server.ask<Answer>("/v1/admin/clients");
      this.#revision = revision;
      this.#table.show(clients);
      const subscriptions = clients.reduce((sum, client) => sum + client.subscriptionsTotal, 0);
      const shown = clients.length < total ? `, ${count(clients.length)} of them shown` : "";
      say(
        this.#shown,
        `${count(total)} connected${shown}, ${counted(subscriptions, "subscription")}, revision ${count(revision)}`,
      );
    } catch (error) {
      if (this.#server.state === "live") say(this.#shown, problem(error));
    } finally {
      this.#isAsking = false;
    }
  }

  #behind({ revision, waits }: ClientSubscription): string {
    if (revision === undefined) return "";
    if (revision === 0) return "snapshot";
    const behind = Math.max(this.#revision - revision, 0);
    return `${behind === 0 ? "–" : count(behind)}${waits ? ", waits" : ""}`;
  }

  async #close({ id, name, address }: ListedClient): Promise<void> {
    const question = `Close the connection of ${name} from ${address}? Its client may connect again by itself.`;
    if (!await confirmed(question, "Close it")) return;
    try {
      await this.#server.ask(`/v1/admin/clients/${id}`, { method: "DELETE" });
      await this.#ask();
    } catch (error) {
      say(this.#shown, problem(error));
    }
  }
}

/** A line for each subscription that is told of. */
function topicsOf({ subscriptions, subscriptionsTotal }: ListedClient): readonly string[] {
  if (subscriptionsTotal === 0) return ["none"];
  const left = subscriptionsTotal - subscriptions.length;
  return [...subscriptions.map(topicOf), ...(left > 0 ? [`${count(left)} more`] : [])];
}

function topicOf({ channel, bucket, key, prefix, types }: ClientSubscription): string {
  if (channel !== undefined) return channel;
  const keys = key ?? (prefix === undefined ? "" : `${prefix}*`);
  const place = bucket === undefined ? "everything" : keys === "" ? bucket : `${bucket}/${keys}`;
  return types === undefined ? place : `${place} (${types.join(", ")})`;
}

/** The program that a client says it is, without all that browsers put into it. */
function programOf(agent: string): string {
  const browser = /(Firefox|Edg|OPR|Chrome|HeadlessChrome|Safari)\/(\d+)/.exec(agent);
  return browser === null ? agent.split(" ")[0]! : `${browser[1]!.replace("Headless", "")} ${browser[2]}`;
}
