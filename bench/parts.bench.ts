/**
 * The parts that a get, a set and a request are made of, each by itself: records, checksum, compression, keydir,
 * cache, frames. Where our code and the runtime's do the same, both are measured.
 *
 * @module
 */
import { do_not_optimize } from "mitata";
import { crc32 as nativeCrc32 } from "node:zlib";
import { encodeKey, hashKey } from "../lib/base/bytes.ts";
import { crc32, crc32ByTables } from "../lib/base/checksum.ts";
import { CONTENT } from "../lib/base/codec.ts";
import { compress, deflateByPackage, inflateByPackage } from "../lib/base/compress.ts";
import { FRAME_BYTES, FrameCache, type FrameTable } from "../lib/bitcask/frames.ts";
import { Keydir } from "../lib/bitcask/keydir.ts";
import { checkRecord, encodeRecord, isKeyAt, KIND, recordBytes, type RecordFields } from "../lib/bitcask/record.ts";
import type { Entry } from "../lib/engine/engine.ts";
import { nativeDeflate, useNative } from "../lib/fs/native.ts";
import { CborReader, CborWriter } from "../lib/wire/cbor.ts";
import { FRAME, OP, readEntry, SHAPES, writeEntry } from "../lib/wire/protocol.ts";
import { measure, report } from "./harness.ts";
import { createRandom, GROUP, KEYS, VALUE_BYTES, Workload, type Write } from "./workload.ts";

const BUCKET = 1;
const SEED = 0x5eed;

/** A log in memory: one record per key, back to back, and where each begins. */
interface Records {
  readonly bytes: Uint8Array;
  readonly keys: readonly Uint8Array[];
  readonly offsets: readonly number[];
}

function recordOf({ key, value }: Write): RecordFields {
  return { kind: KIND.set, bucket: BUCKET, revision: 7, at: 1e12, key: encodeKey(key), value, content: CONTENT.bytes };
}

function encodeAll(): Records {
  const fields = [...new Workload().load()].flat().map(recordOf);
  const bytes = new Uint8Array(recordBytes(fields[0]!) * fields.length);
  const offsets: number[] = [];
  let end = 0;
  for (const record of fields) {
    offsets.push(end);
    end = encodeRecord(bytes, end, SEED, record);
  }
  return { bytes, keys: fields.map(({ key }) => key), offsets };
}

function expectEqual(found: number, wanted: number | undefined): void {
  if (found !== wanted) throw new Error(`Cannot trust the figures: found ${found}, expected ${wanted}`);
}

function measureRecords(): void {
  measure(`record, encode, ${VALUE_BYTES} B`, 1, () => {
    const workload = new Workload();
    const bytes = new Uint8Array(1_024);
    return {
      prepare: () => recordOf(workload.overwrite()),
      call: (record: RecordFields) => do_not_optimize(encodeRecord(bytes, 0, SEED, record)),
      finish: () => expectEqual(checkRecord(bytes, 0, bytes.length, SEED), recordBytes(recordOf(workload.overwrite()))),
    };
  });
  measure(`record, check, ${VALUE_BYTES} B`, 1, () => {
    const { bytes, offsets } = encodeAll();
    const random = createRandom(3);
    return {
      prepare: () => offsets[random(KEYS)]!,
      call: (offset: number) => {
        const length = checkRecord(bytes, offset, bytes.length, SEED);
        if (length === 0) throw new Error("Cannot trust the figures: a sound record fails its check");
        do_not_optimize(length);
      },
    };
  });
}

// --- what the runtime does too ---

const CHECKSUMS = {
  "as used": crc32,
  tables: crc32ByTables,
  native: (bytes: Uint8Array, seed: number, start: number, end: number) =>
    nativeCrc32(bytes.subarray(start, end), seed),
};

function measureChecksums(): void {
  for (const length of [141, 1_024, 4_096, 32 * 1_024 * 1_024]) {
    for (const [name, checksum] of Object.entries(CHECKSUMS)) {
      measure(`crc32, ${length} B, ${name}`, 1, () => {
        const bytes = length < 2 ** 20 ? encodeAll().bytes : new Uint8Array(length + 1).fill(0x61);
        const random = createRandom(4);
        const start = random(bytes.length - length);
        expectEqual(checksum(bytes, 7, start, start + length), nativeCrc32(bytes.subarray(start, start + length), 7));
        return {
          prepare: () => random(bytes.length - length),
          call: (start: number) => do_not_optimize(checksum(bytes, 0, start, start + length)),
        };
      });
    }
  }
}

const WORDS = "the of and to in is that for it as was with be by on not he his but at are this have from or had".split(
  " ",
);

/** `length` bytes of a kind of value. */
const KINDS: Readonly<Record<string, (length: number, random: (limit: number) => number) => Uint8Array>> = {
  JSON(length, random) {
    const rows: unknown[] = [];
    for (let bytes = 0; bytes < length; bytes += 40) {
      rows.push({
        id: random(1e6),
        name: `user ${random(500)}`,
        city: WORDS[random(WORDS.length)],
        ok: random(2) === 1,
      });
    }
    return new TextEncoder().encode(JSON.stringify(rows)).subarray(0, length);
  },
  text(length, random) {
    const words = Array.from({ length: length / 2 }, () => WORDS[random(WORDS.length)]!);
    return new TextEncoder().encode(words.join(" ")).subarray(0, length);
  },
  random: (length, random) => Uint8Array.from({ length }, () => random(256)),
};

function measureCompression(): void {
  for (const [kind, make] of Object.entries(KINDS)) {
    for (const length of [256, 1_024, 4_096, 65_536]) {
      const value = make(length, createRandom(7));
      const packed = { fflate: deflateByPackage(value), native: nativeDeflate.deflate(value) };
      const percent = (bytes: Uint8Array): string => `to ${Math.round((100 * bytes.length) / length)} %`;
      const name = `${kind}, ${length} B`;
      const measureCall = (what: string, call: () => Uint8Array | undefined): void => {
        measure(`${what}, ${name}`, 1, () => ({ prepare() {}, call: () => do_not_optimize(call()) }));
      };
      if (kind === "random") {
        expectEqual(compress(value) === undefined ? 0 : 1, 0);
        measureCall("compress, as used", () => compress(value));
      }
      measureCall(`deflate, fflate, ${percent(packed.fflate)}`, () => deflateByPackage(value));
      measureCall(`deflate, native, ${percent(packed.native)}`, () => nativeDeflate.deflate(value));
      if (kind === "random") continue;
      expectEqual(inflateByPackage(packed.native, length).length, nativeDeflate.inflate(packed.fflate, length).length);
      measureCall("inflate, fflate", () => inflateByPackage(packed.native, length));
      measureCall("inflate, native", () => nativeDeflate.inflate(packed.native, length));
    }
  }
}

function measureKeydir(): void {
  const start = (): { readonly keydir: Keydir; readonly records: Records } => {
    const records = encodeAll();
    const keydir = new Keydir((_slot, offset, bucket, key) => isKeyAt(records.bytes, offset, bucket, key));
    records.keys.forEach((key, index) => keydir.set(hashKey(SEED, BUCKET, key), BUCKET, key, records.offsets[index]!));
    return { keydir, records };
  };
  const find = (keydir: Keydir, key: Uint8Array): number => keydir.get(hashKey(SEED, BUCKET, key), BUCKET, key);
  const verify = (keydir: Keydir, { keys, offsets }: Records): void => {
    keys.forEach((key, index) => expectEqual(find(keydir, key), offsets[index]));
  };
  measure("keydir, hash and get", 1, () => {
    const { keydir, records } = start();
    const random = createRandom(5);
    return {
      prepare: () => records.keys[random(KEYS)]!,
      call: (key: Uint8Array) => do_not_optimize(find(keydir, key)),
      finish: () => verify(keydir, records),
    };
  });
  measure("keydir, hash and get, missing key", 1, () => {
    const { keydir } = start();
    const workload = new Workload();
    return {
      prepare: () => encodeKey(workload.missing()),
      call: (key: Uint8Array) => do_not_optimize(find(keydir, key)),
      finish: () => expectEqual(find(keydir, encodeKey(workload.missing())), -1),
    };
  });
  measure("keydir, hash and set", 1, () => {
    const { keydir, records } = start();
    const random = createRandom(6);
    return {
      prepare: () => random(KEYS),
      call: (index: number) => {
        const key = records.keys[index]!;
        do_not_optimize(keydir.set(hashKey(SEED, BUCKET, key), BUCKET, key, records.offsets[index]!));
      },
      finish: () => verify(keydir, records),
    };
  });
}

/** What a miss costs beside its read: the block goes in, and another, mostly one that nobody asked for again, out. */
function measureCache(): void {
  const blocks = 1_024;
  const reach = 1_000_000;
  measure("cache, a block in and another out", 1, () => {
    const cache = new FrameCache(blocks * FRAME_BYTES);
    const table: FrameTable = { frames: new Int32Array(reach) };
    const random = createRandom(8);
    let next = 0;
    const hit = (): void => {
      const frame = table.frames[Math.max(next - 1 - random(blocks), 0) % reach]!;
      if (frame !== 0) cache.visit(frame - 1);
    };
    return {
      prepare: () => (hit(), next++ % reach),
      call: (block: number) => {
        const frame = cache.take();
        cache.put(frame, table, block);
        do_not_optimize(cache.startOf(frame));
      },
      finish: () => {
        expectEqual(cache.bytes, blocks * FRAME_BYTES);
        expectEqual(table.frames.reduce((count, frame) => count + (frame === 0 ? 0 : 1), 0), blocks);
      },
    };
  });
}

// --- frames, in messages of GROUP: what is written has to be taken somewhere ---

function writeRequests(writer: CborWriter, keys: readonly Uint8Array[]): Uint8Array {
  for (let index = 0; index < keys.length; index++) {
    writer.array(2 + SHAPES[OP.get]!.args);
    writer.uint(OP.get);
    writer.uint(1_000_000 + index);
    writer.text("users");
    writer.bytes(keys[index]!);
  }
  return writer.take();
}

function readRequests(reader: CborReader, message: Uint8Array): number {
  let bytes = 0;
  for (reader.reset(message); !reader.atEnd();) {
    bytes += reader.frame() + reader.uint() + reader.uint() + reader.text().length + reader.bytes().length;
  }
  return bytes;
}

function writeReplies(writer: CborWriter, entries: readonly Entry[]): Uint8Array {
  for (let index = 0; index < entries.length; index++) {
    writer.array(2 + SHAPES[OP.get]!.results);
    writer.uint(FRAME.reply);
    writer.uint(1_000_000 + index);
    writeEntry(writer, entries[index]);
  }
  return writer.take();
}

function readReplies(reader: CborReader, message: Uint8Array, entries: readonly Entry[]): number {
  let bytes = 0;
  let index = 0;
  for (reader.reset(message); !reader.atEnd(); index++) {
    bytes += reader.frame() + reader.uint() + reader.uint() + readEntry(reader, entries[index]!.key)!.value.length;
  }
  return bytes;
}

function measureFrames(): void {
  const writes = new Workload().overwrites();
  const keys = writes.map(({ key }) => encodeKey(key));
  const entries = writes.map(({ value }, index): Entry => {
    return { key: keys[index]!, value, content: CONTENT.bytes, revision: 1_000_000 + index };
  });
  const writer = new CborWriter();
  const reader = new CborReader();
  const requests = writeRequests(writer, keys).slice();
  const replies = writeReplies(writer, entries).slice();
  const ids = GROUP * 1_000_000 + (GROUP * (GROUP - 1)) / 2;
  expectEqual(readRequests(reader, requests), ids + GROUP * (4 + OP.get + "users".length + keys[0]!.length));
  expectEqual(readReplies(reader, replies, entries), ids + GROUP * (3 + FRAME.reply + VALUE_BYTES));
  const measureCall = (name: string, call: () => unknown): void => {
    measure(
      `frame, ${name}, message of ${GROUP}`,
      GROUP,
      () => ({ prepare() {}, call: () => do_not_optimize(call()) }),
    );
  };
  measureCall("write a get", () => writeRequests(writer, keys));
  measureCall("read a get", () => readRequests(reader, requests));
  measureCall("write its reply", () => writeReplies(writer, entries));
  measureCall("read its reply", () => readReplies(reader, replies, entries));
}

useNative();
measureRecords();
measureChecksums();
measureCompression();
measureKeydir();
measureCache();
measureFrames();

await report("parts");
