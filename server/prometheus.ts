/**
 * The server's figures in Prometheus' text format (version 0.0.4), for `/metrics`.
 *
 * Names are `firkin_…`: `_total` counts since the start, `_seconds` and `_bytes` are what they say, anything else is
 * how many there are now. Labels are an operation, a status, a method: from closed sets, never a key or an address, so
 * that the number of series is bounded whatever clients do; of buckets the largest are told of, no more than a hundred.
 * A figure of the engine that has no row here is left out. The process itself is told of as Prometheus' own exporters
 * do.
 *
 * @module
 */
import process from "node:process";
import { type ErrorCode, ERRORS } from "../lib/base/errors.ts";
import type { Histogram } from "../lib/base/histogram.ts";
import type { BucketInfo, Engine, EngineStats } from "../lib/engine/engine.ts";
import { type Metrics, OPERATIONS } from "./metrics.ts";

/** The media type of the format. */
export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Bounds of the latency buckets: powers of two of microseconds, from 16 µs to 17 s. */
const BOUNDS_US = [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24].map((power) => 2 ** power);

/** Figures of the engine: name, type and meaning of each. */
const ENGINE_ROWS: readonly (readonly [figure: string, name: string, type: "counter" | "gauge", help: string])[] = [
  ["keys", "firkin_keys", "gauge", "Live keys"],
  ["buckets", "firkin_buckets", "gauge", "Buckets that were ever written to"],
  ["deadlines", "firkin_deadlines", "gauge", "Deadlines in the schedule, stale ones counted"],
  ["revision", "firkin_revision", "gauge", "The last revision that is visible"],
  ["revision.durable", "firkin_revision_durable", "gauge", "The last revision that is on stable storage"],
  ["segments", "firkin_segments", "gauge", "Segments of the log"],
  ["log.bytes", "firkin_log_bytes", "gauge", "Bytes of the log"],
  ["log.deadBytes", "firkin_log_dead_bytes", "gauge", "Bytes of records that compaction can drop"],
  ["log.poisoned", "firkin_log_poisoned", "gauge", "1 when a failed sync or a lost lock has ended all writing"],
  ["reserve.bytes", "firkin_reserve_bytes", "gauge", "Room kept back for deletes and compaction"],
  ["reserve.full", "firkin_disk_full", "gauge", "1 while sets are refused for want of room"],
  ["memory.keydirBytes", "firkin_keydir_bytes", "gauge", "Memory of the index"],
  ["memory.orderBytes", "firkin_order_bytes", "gauge", "Memory of the order of keys"],
  ["memory.deadlineBytes", "firkin_deadline_bytes", "gauge", "Memory of the schedule of deadlines"],
  ["memory.cacheBytes", "firkin_cache_bytes", "gauge", "Memory of cached records and hints"],
  ["compaction.running", "firkin_compaction_running", "gauge", "1 while compaction runs"],
  ["compaction.runs", "firkin_compaction_runs_total", "counter", "Runs of compaction"],
  ["compaction.readBytes", "firkin_compaction_read_bytes_total", "counter", "Bytes that compaction has read"],
  ["compaction.writtenBytes", "firkin_compaction_written_bytes_total", "counter", "Bytes that it has written"],
  ["compaction.reclaimedBytes", "firkin_compaction_reclaimed_bytes_total", "counter", "Bytes that it has given back"],
];

/** Durations of the engine. */
const ENGINE_HISTOGRAMS = [
  ["sync", "firkin_sync_duration_seconds", "How long syncs of the log took"],
  ["expiry", "firkin_expiry_lateness_seconds", "How long after its deadline a key was ended"],
] as const;

/** So many buckets are told of, those with the most bytes. */
const BUCKETS_MAX = 100;

/** All figures, of the server and of its engine, which are `stats` and what it has at hand, as one text. */
export async function metricsText(metrics: Metrics, stats: EngineStats, engine: Engine): Promise<string> {
  const page = new Page();
  operations(page, metrics);
  connections(page, metrics);
  for (const [figure, name, type, help] of ENGINE_ROWS) {
    if (stats[figure] !== undefined) page.single(name, type, help, stats[figure]);
  }
  buckets(page, await engine.buckets());
  const durations = engine.durations?.();
  for (const [duration, name, help] of durations === undefined ? [] : ENGINE_HISTOGRAMS) {
    page.head(name, "histogram", help);
    page.histogram(name, {}, durations![duration]);
  }
  processFigures(page);
  return page.text;
}

/** A store may have thousands, whose names clients give: the largest are told of, and `firkin_keys` counts all. */
function buckets(page: Page, all: readonly BucketInfo[]): void {
  const largest = all.toSorted((left, right) => (right.bytes ?? 0) - (left.bytes ?? 0)).slice(0, BUCKETS_MAX);
  page.head("firkin_bucket_keys", "gauge", `Live keys of the ${BUCKETS_MAX} largest buckets`);
  for (const { name, keys } of largest) {
    if (keys !== undefined) page.line("firkin_bucket_keys", { bucket: name }, keys);
  }
  page.head("firkin_bucket_bytes", "gauge", "Bytes of their records in the log");
  for (const { name, bytes } of largest) {
    if (bytes !== undefined) page.line("firkin_bucket_bytes", { bucket: name }, bytes);
  }
}

/** What every exporter of Prometheus tells of its process, by the names that it has there. */
function processFigures(page: Page): void {
  const { user, system } = process.cpuUsage();
  const startedAt = Math.round(Date.now() / 1_000 - process.uptime());
  page.single("process_cpu_seconds_total", "counter", "Time that the processor spent", (user + system) / 1e6);
  page.single("process_resident_memory_bytes", "gauge", "Memory that the process has", process.memoryUsage().rss);
  page.single("process_start_time_seconds", "gauge", "When it began, in seconds since 1970", startedAt);
}

function operations(page: Page, metrics: Metrics): void {
  const counted = "firkin_operations_total";
  page.head(counted, "counter", "Operations on the store, by what became of them");
  for (const op of OPERATIONS) {
    page.line(counted, { op, status: "ok" }, metrics.count(op, "answered"));
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      const failures = metrics.count(op, code);
      if (failures > 0) page.line(counted, { op, status: code.toLowerCase() }, failures);
    }
  }
  const timed = "firkin_operation_duration_seconds";
  page.head(timed, "histogram", "How long operations took that were answered");
  for (const op of OPERATIONS) {
    if (metrics.latency(op).count > 0) page.histogram(timed, { op }, metrics.latency(op));
  }
}

function connections(page: Page, metrics: Metrics): void {
  page.single("firkin_connections", "gauge", "Connections of WebSocket and Redis clients", metrics.connections);
  page.single("firkin_connections_opened_total", "counter", "Connections that were opened", metrics.connectionsTotal);
  page.single("firkin_subscriptions", "gauge", "Subscriptions of these connections", metrics.subscriptions);
  page.single("firkin_event_streams", "gauge", "Event streams over HTTP that are open", metrics.streams);
  page.single("firkin_events_total", "counter", "Changes sent to subscribers", metrics.events);
  page.head(
    "firkin_subscription_lag_seconds",
    "histogram",
    "How old changes were when they were read for a subscriber",
  );
  page.histogram("firkin_subscription_lag_seconds", {}, metrics.lag);
  page.single("firkin_resyncs_total", "counter", "Subscribers whose cursor lay too far back", metrics.resyncs);
  page.single("firkin_slow_reader_closes_total", "counter", "Readers cut off that fell behind", metrics.slowReaders);
  page.single(
    "firkin_protocol_errors_total",
    "counter",
    "Connections closed for what they sent",
    metrics.protocolErrors,
  );
  page.single("firkin_auth_failures_total", "counter", "Wrong credentials", metrics.authFailures);
  page.single(
    "firkin_request_errors_total",
    "counter",
    "Requests on connections that were answered with an error",
    metrics.errors,
  );
  page.single("firkin_received_bytes_total", "counter", "Bytes received on connections", metrics.bytesIn);
  page.single("firkin_sent_bytes_total", "counter", "Bytes sent on connections and event streams", metrics.bytesOut);
  page.single("firkin_waiting_bytes", "gauge", "Bytes that wait to be sent on connections", metrics.bytesWaiting);
  page.single("firkin_received_messages_total", "counter", "Messages, or pieces of RESP, received", metrics.messagesIn);
  page.single("firkin_sent_messages_total", "counter", "Messages, or pieces of RESP, sent", metrics.messagesOut);
  page.head("firkin_http_requests_total", "counter", "Plain HTTP requests answered");
  for (const [labels, count] of metrics.requests) {
    const [method = "", status = ""] = labels.split(" ");
    page.line("firkin_http_requests_total", { method, status }, count);
  }
}

/** The text, as it is written. */
class Page {
  text = "";

  /** Begins a metric. */
  head(name: string, type: "counter" | "gauge" | "histogram" | "summary", help: string): void {
    this.text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
  }

  /** One value; labels come from closed sets, or are names of buckets, and need no escapes. */
  line(name: string, labels: Readonly<Record<string, string>>, value: number): void {
    const parts = Object.entries(labels).map(([label, text]) => `${label}="${text}"`);
    this.text += `${name}${parts.length === 0 ? "" : `{${parts.join(",")}}`} ${value}\n`;
  }

  /** A metric of one value. */
  single(name: string, type: "counter" | "gauge", help: string, value: number): void {
    this.head(name, type, help);
    this.line(name, {}, value);
  }

  histogram(name: string, labels: Readonly<Record<string, string>>, histogram: Histogram): void {
    for (const bound of BOUNDS_US) {
      this.line(`${name}_bucket`, { ...labels, le: String(bound / 1e6) }, histogram.countBelow(bound));
    }
    this.line(`${name}_bucket`, { ...labels, le: "+Inf" }, histogram.count);
    this.line(`${name}_sum`, labels, histogram.milliseconds / 1e3);
    this.line(`${name}_count`, labels, histogram.count);
  }
}
