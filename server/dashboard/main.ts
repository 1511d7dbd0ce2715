/**
 * The dashboard: the views, which of them is in sight, the theme, and who comes in.
 *
 * A view that the token may do nothing in is not offered.
 *
 * @module
 */
import { ClientsView } from "./clients.ts";
import { byId, element, field, say } from "./dom.ts";
import { EventsView } from "./events.ts";
import { KeysView } from "./keys.ts";
import { guardLeave } from "./outbox.ts";
import { overview } from "./overview.ts";
import { Server } from "./server.ts";
import { TokensView } from "./tokens.ts";

/** A view, as the frame around it sees it. */
interface View {
  readonly name: string;
  readonly title: string;
  readonly node: HTMLElement;
  readonly offered: () => boolean;
  enter(place: string | undefined): void;
  leave(): void;
}

const THEME_ITEM = "firkin-theme";
const THEMES = ["auto", "light", "dark"] as const;

const server = new Server();
/** Made when it is known who asks. */
let views: readonly View[] = [];
let current: View | undefined;
/** Draws charts anew, in the colours of another theme. */
let retheme = (): void => {};

function makeViews(): readonly View[] {
  const figures = overview(server);
  server.onHistory = figures.take;
  retheme = figures.retheme;
  return [
    view("overview", "Overview", { ...figures, enter: figures.draw, leave() {} }, () => server.may("admin")),
    view("keys", "Keys", new KeysView(server), () => server.mayAnywhere("read")),
    view("events", "Events", new EventsView(server), () => server.mayAnywhere("subscribe")),
    view("clients", "Clients", new ClientsView(server), () => server.may("admin")),
    view("tokens", "Tokens", new TokensView(server), () => server.may("admin") && server.me.asksTokens),
  ];
}

function view(
  name: string,
  title: string,
  parts: { readonly node: HTMLElement; enter(place: string | undefined): void; leave(): void },
  offered: () => boolean,
): View {
  return { name, title, node: parts.node, offered, enter: (place) => parts.enter(place), leave: () => parts.leave() };
}

/** Shows the view that the address names, or the first that is offered. */
function route(): void {
  const [, name, place] = location.hash.split("/");
  const offered = views.filter((one) => one.offered());
  const next = offered.find((one) => one.name === name) ?? offered[0];
  if (next === undefined) {
    byId("main").replaceChildren(
      element("p", { class: "empty", text: "This token may do nothing that is shown here." }),
    );
    return;
  }
  if (next !== current) {
    current?.leave();
    current = next;
    document.title = `firkin: ${next.title}`;
    byId("main").replaceChildren(next.node);
    next.enter(place);
  }
  byId("nav").replaceChildren(
    ...offered.map((one) =>
      element("a", { href: `#/${one.name}`, text: one.title, ...(one === current && { "aria-current": "page" }) })
    ),
  );
}

// --- theme ---

function applyTheme(theme: string): void {
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  byId("theme").setAttribute("aria-label", `Theme: ${theme}`);
  byId("theme").title = `Theme: ${theme}`;
  retheme();
}

function startTheme(): void {
  let theme = localStorage.getItem(THEME_ITEM) ?? "auto";
  applyTheme(theme);
  byId("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme as typeof THEMES[number]) + 1) % THEMES.length]!;
    localStorage.setItem(THEME_ITEM, theme);
    applyTheme(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(theme));
}

// --- who comes in ---

function askToken(why: string): Promise<string> {
  return new Promise((resolve) => {
    const token = element("input", {
      type: "password",
      name: "token",
      required: true,
      autofocus: true,
      autocomplete: "off",
    });
    const form = element(
      "form",
      {},
      element("h2", { text: "Who asks?" }),
      element("p", {
        id: "ask-why",
        text: why || "This server lets in who has a token. It is kept until this tab is closed.",
      }),
      field("token", token),
      element("button", { class: "primary", text: "Sign in" }),
    );
    const dialog = element("dialog", { class: "panel ask", "aria-label": "Sign in" }, form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.remove();
      resolve(token.value.trim());
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

async function start(): Promise<void> {
  startTheme();
  guardLeave();
  server.onState = (state, words) => {
    document.body.dataset["state"] = state;
    say(byId("state"), words);
  };
  await server.open(askToken);
  views = makeViews();
  const { me } = server;
  byId("sign-out").hidden = !me.asksTokens;
  byId("sign-out").title = `Signed in as ${me.name}`;
  byId("sign-out").addEventListener("click", () => server.signOut());
  addEventListener("hashchange", route);
  route();
}

void start();
