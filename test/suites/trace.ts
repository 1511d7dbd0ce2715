/**
 * What a process asked of the system, as `strace -f -y` saw it, and whether it kept its promises by that.
 *
 * Files are told by their paths (`-y`), not by descriptors: Deno syncs a duplicate of the one that it wrote to.
 *
 * @module
 */

/** How strace must be called. A question mark: not every machine has this call. */
export const TRACE_OPTIONS: readonly string[] = [
  "-f",
  "-y",
  "-s",
  "256",
  "-e",
  "trace=openat,write,writev,pwrite64,pwritev,?pwritev2,fsync,fdatasync,?rename,renameat,?renameat2,?unlink,unlinkat," +
  "ftruncate,close",
];

/** One call of the system. */
export interface SystemCall {
  readonly name: string;
  /** The path that it is about: of the descriptor, of the file that was opened, of the new name. */
  readonly path: string;
  readonly text: string;
  /** Lines of the trace: a call that another thread's call came between has two. */
  readonly begin: number;
  readonly end: number;
  readonly ok: boolean;
}

/** The calls of a trace (`-o`, so that each line begins with a thread), in order of their ends. */
export function parseTrace(trace: string): SystemCall[] {
  const calls: SystemCall[] = [];
  const unfinished = new Map<string, { readonly text: string; readonly begin: number }>();
  for (const [line, content] of trace.split("\n").entries()) {
    const [, thread, rest] = /^(\d+) +(.*)$/.exec(content) ?? [];
    if (thread === undefined || rest === undefined) continue;
    if (rest.endsWith("<unfinished ...>")) {
      unfinished.set(thread, { text: rest.slice(0, -"<unfinished ...>".length), begin: line });
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    const started = resumed === null ? undefined : unfinished.get(thread);
    if (resumed !== null && started === undefined) continue;
    const text = started === undefined ? rest : started.text + resumed![1]!;
    const name = /^(\w+)\(/.exec(text)?.[1];
    if (name === undefined) continue;
    calls.push({ name, path: pathOf(name, text), text, begin: started?.begin ?? line, end: line, ok: isOk(text) });
  }
  return calls;
}

function pathOf(name: string, text: string): string {
  if (name === "openat") return /= \d+<([^>]*)>$/.exec(text)?.[1] ?? "";
  if (name.startsWith("rename")) return [...text.matchAll(/"([^"]*)"/g)][1]?.[1] ?? "";
  if (name.startsWith("unlink")) return /"([^"]*)"/.exec(text)?.[1] ?? "";
  return /^\w+\(\d+<([^>]*)>/.exec(text)?.[1] ?? "";
}

function isOk(text: string): boolean {
  return /= \d+(<[^>]*>)?$/.test(text);
}

/** A stretch of the trace in which something must have happened. */
interface Stretch {
  readonly after: number;
  readonly before: number;
}

/**
 * What `writer.ts` was told to do, and the system was not asked for in time. `synced`: each acknowledgement means that
 * its key is on stable storage.
 */
export function problemsOf(calls: readonly SystemCall[], folder: string, synced: boolean): string[] {
  const problems: string[] = [];
  const isWrite = ({ name }: SystemCall): boolean => /^p?writev?(64|2)?$/.test(name);
  const isSync = ({ name }: SystemCall): boolean => name === "fsync" || name === "fdatasync";
  const isOf = (path: string) => (call: SystemCall): boolean => call.path === path;
  const isIn = ({ after, before }: Stretch) => ({ begin, end, ok }: SystemCall): boolean => {
    return ok && begin > after && end < before;
  };
  const wasSynced = (path: string, stretch: Stretch): boolean => {
    return calls.some((call) => isSync(call) && isOf(path)(call) && isIn(stretch)(call));
  };
  const segments = calls.filter((call) =>
    isWrite(call) && call.path.startsWith(folder) && call.path.endsWith(".segment")
  );

  const switches = calls.filter((call) =>
    call.name.startsWith("rename") && call.ok && call.path === `${folder}/manifest`
  );
  for (const { begin } of switches) {
    const source = `${folder}/manifest.new`;
    const written = calls.findLast((call) => isWrite(call) && isOf(source)(call) && call.end < begin);
    if (written === undefined || !wasSynced(source, { after: written.end, before: begin })) {
      problems.push(`line ${begin + 1}: the manifest is switched to what is not synced`);
    }
  }

  /** The file is in a manifest whose switch is on stable storage. */
  const wasListed = (path: string, before: number): boolean => {
    const created = calls.find((call) => call.name === "openat" && call.text.includes("O_CREAT") && isOf(path)(call));
    return created !== undefined && switches.some((change) => {
      return change.begin > created.end && wasSynced(folder, { after: change.end, before });
    });
  };

  const said = calls.filter((call) => isWrite(call) && !call.path.startsWith(folder));
  for (const { text, begin } of said) {
    const key = /"acknowledged (key-\d+)/.exec(text)?.[1];
    const place = `line ${begin + 1}: ${key ?? "synced"}`;
    if (key !== undefined) {
      const record = segments.find((call) => call.ok && call.end < begin && call.text.includes(key));
      if (record === undefined) problems.push(`${place} is not written`);
      else if (synced && !wasSynced(record.path, { after: record.end, before: begin })) {
        problems.push(`${place} is not synced`);
      } else if (!wasListed(record.path, begin)) problems.push(`${place} is in a file whose name is not synced`);
    } else if (text.includes('"synced')) {
      const open = segments.filter((call) =>
        call.end < begin && !wasSynced(call.path, { after: call.end, before: begin })
      );
      if (open.length > 0) problems.push(`${place}, but ${open.length} writes are not`);
    }
  }
  return problems;
}

/** The keys that were acknowledged, in order. */
export function acknowledgedIn(calls: readonly SystemCall[]): string[] {
  return calls.flatMap(({ text }) => /"acknowledged (key-\d+)/.exec(text)?.[1] ?? []);
}

/**
 * The values that were handed out before the tombstone of their key was on stable storage; and how many were handed
 * out in all. The tombstone is the last record of the key that was written before.
 */
export function earlyTakesIn(calls: readonly SystemCall[], folder: string): { early: string[]; takes: number } {
  const early: string[] = [];
  let takes = 0;
  for (const { text, begin } of calls) {
    const key = /"took (key-\d+)/.exec(text)?.[1];
    if (key === undefined) continue;
    takes++;
    const acknowledged = calls.find((call) => call.text.includes(`"acknowledged ${key}`))!;
    const tombstone = calls.find((call) => {
      return call.ok && call.path.startsWith(folder) && call.path.endsWith(".segment") && call.text.includes(key) &&
        call.begin > acknowledged.end && call.end < begin && call.name.includes("write");
    });
    const synced = tombstone !== undefined && calls.some((call) => {
      return call.ok && /^f(data)?sync$/.test(call.name) && call.path === tombstone.path &&
        call.begin > tombstone.end && call.end < begin;
    });
    if (!synced) early.push(`line ${begin + 1}: ${key}`);
  }
  return { early, takes };
}
