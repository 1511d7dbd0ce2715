/**
 * The bugs that `planted.mjs` plants: each a name, changes of [file, text, instead], and the suites that must catch it,
 * tried in order: `SIMULATION`, or a file of tests.
 *
 * @module
 */

/** Stands for `test/sim/main.ts --first`. */
export const SIMULATION = "simulation";

/** What to break, and who must notice. */
export const BUGS = [
  // --- what is acknowledged is durable ---
  {
    name: "one sync in seven is skipped",
    suites: [SIMULATION],
    changes: [[
      "lib/bitcask/group.ts",
      "await this.#sync(segment.file!);\n        segment.durable = end;",
      "if (end % 7 !== 0) await this.#sync(segment.file!);\n        segment.durable = end;",
    ]],
  },
  {
    name: "acknowledged before the sync",
    suites: [SIMULATION],
    changes: [[
      "lib/bitcask/group.ts",
      "await this.#sync(segment.file!);\n        segment.durable = end;",
      "void this.#sync(segment.file!).catch(() => {});\n        segment.durable = end;",
    ]],
  },
  {
    name: "the first group of a life is not synced",
    suites: ["test/bitcask/recovery.test.ts", SIMULATION],
    changes: [["lib/bitcask/group.ts", "group.mustSync || !this.#begun ||", "group.mustSync ||"], [
      "lib/bitcask/group.ts",
      '"always" && this.#begun && !group.mustSync',
      '"always" && !group.mustSync',
    ]],
  },
  {
    name: "a sealed segment is not synced when the policy does not ask for it",
    suites: [SIMULATION],
    changes: [["lib/bitcask/group.ts", "if (sealed || group.mustSync ||", "if (group.mustSync ||"], [
      "lib/bitcask/group.ts",
      "if (sealed) {\n        this.#log.shelve(segment);",
      "if (sealed) {\n        segment.durable = segment.tail;\n        this.#log.shelve(segment);",
    ]],
  },
  {
    name: "a sync that failed is tried again",
    suites: [SIMULATION],
    changes: [[
      "lib/bitcask/group.ts",
      "await this.#sync(segment.file!);\n        segment.durable = end;",
      "await this.#sync(segment.file!).catch(() => this.#sync(segment.file!));\n        segment.durable = end;",
    ]],
  },
  {
    name: "a failed write is not cut off",
    suites: [SIMULATION],
    changes: [["lib/bitcask/group.ts", "segment.truncate(group.from);", ""]],
  },
  {
    name: "a failed write is cut off without a sync, and others follow",
    suites: ["test/bitcask/group.test.ts"],
    changes: [[
      "lib/bitcask/group.ts",
      "segment.truncate(group.from);\n        await segment.file.sync();",
      "segment.truncate(group.from);",
    ]],
  },
  {
    name: "a short write is ignored",
    suites: ["test/fs/node.test.ts"],
    changes: [[
      "lib/fs/node.ts",
      'gave no reason");\n        done += count;',
      'gave no reason");\n        done += length;',
    ]],
  },

  // --- the manifest ---
  {
    name: "the folder is not synced after the switch",
    suites: [SIMULATION],
    changes: [[
      "lib/bitcask/manifest.ts",
      "fileSystem.rename(MANIFEST_NEW_NAME, MANIFEST_NAME);\n  await fileSystem.syncDirectory();",
      "fileSystem.rename(MANIFEST_NEW_NAME, MANIFEST_NAME);",
    ]],
  },
  {
    name: "the manifest names segments whose names are not durable",
    suites: [SIMULATION],
    changes: [[
      "lib/bitcask/manifest.ts",
      "  await fileSystem.syncDirectory();\n  fileSystem.rename",
      "  fileSystem.rename",
    ]],
  },
  {
    name: "leftovers are removed before the manifest is durable",
    suites: ["test/sim/sim.test.ts", SIMULATION],
    changes: [[
      "lib/bitcask/open.ts",
      "await fileSystem.syncDirectory();\n      removeLeftovers",
      "removeLeftovers",
    ]],
  },
  {
    name: "a segment's id is given again",
    suites: [SIMULATION, "test/bitcask/compaction.test.ts"],
    changes: [[
      "lib/bitcask/log.ts",
      "id: number = this.#nextSegment++",
      "id: number = Math.max(0, ...this.segments.map((segment) => segment.id)) + 1",
    ]],
  },
  {
    name: "the epoch stays when changes may be lost",
    suites: ["test/bitcask/recovery.test.ts", SIMULATION],
    changes: [["lib/bitcask/open.ts", 'clean || manifest.sync === "always"', "true"]],
  },

  // --- recovery ---
  {
    name: "recovery does not check the CRC",
    suites: [SIMULATION],
    changes: [[
      "lib/bitcask/record.ts",
      "return checksum(bytes, at, at + length, seed, offset) === readU32(bytes, at) ? length : 0;",
      "return length;",
    ]],
  },
  {
    name: "the CRC does not cover the lengths",
    suites: ["test/bitcask/record.test.ts"],
    changes: [[
      "lib/bitcask/record.ts",
      "return crc32(bytes, placeSeed(seed, offset), at + 4, end);",
      "return crc32(bytes, crc32(bytes, placeSeed(seed, offset), at + 4, at + 6), at + 12, end);",
    ]],
  },
  {
    name: "recovery does not sync what it found",
    suites: ["test/bitcask/group.test.ts"],
    changes: [["lib/bitcask/open.ts", "  await file.sync();\n  await log.fileSystem.syncDirectory();", ""]],
  },
  {
    name: "recovery neither writes anew nor syncs",
    suites: [SIMULATION, "test/bitcask/recovery.test.ts"],
    changes: [
      ["lib/bitcask/open.ts", "  await file.sync();\n  await log.fileSystem.syncDirectory();", ""],
      ["lib/bitcask/open.ts", "file.write(bytes.subarray(from, sound.end), from)", "void from"],
    ],
  },
  {
    name: "the end is not written anew after a failed sync",
    suites: [SIMULATION, "test/bitcask/recovery.test.ts"],
    changes: [["lib/bitcask/open.ts", "file.write(bytes.subarray(from, sound.end), from)", "void from"]],
  },
  {
    name: "a clock set back revives what has expired",
    suites: ["test/bitcask/time.test.ts", SIMULATION],
    changes: [["lib/bitcask/time.ts", "Math.max(this.#wallAtOpen, timeMax)", "this.#wallAtOpen"]],
  },
  {
    name: "a record is old when one before it has a later time, by a clock that may be set back",
    suites: [SIMULATION],
    changes: [
      [
        "lib/engine/embedded.ts",
        "now: () => Math.floor(this.#time.now())",
        "now: () => Math.floor(this.#clock.wall())",
      ],
      [
        "lib/bitcask/hint_builder.ts",
        "if (kind < KIND.mark) this.#add(at, length);",
        "if (kind < KIND.mark && recordTime === time) this.#add(at, length);",
      ],
    ],
  },

  // --- compaction ---
  {
    name: "inputs are removed before the switch is durable",
    suites: [SIMULATION, "test/bitcask/compaction_faults.test.ts"],
    changes: [
      [
        "lib/bitcask/compaction.ts",
        "await this.#log.replaceRun(inputs,",
        "for (const { id } of inputs) this.#log.fileSystem.remove(segmentName(id));\n" +
        "      await this.#log.replaceRun(inputs,",
      ],
      ["lib/bitcask/compaction.ts", "await this.#discard(segmentName(id));", ""],
    ],
  },
  {
    name: "outputs are not synced before the switch",
    suites: [SIMULATION, "test/bitcask/compaction_faults.test.ts"],
    changes: [["lib/bitcask/compaction.ts", "    await output.file!.sync();\n", ""]],
  },
  {
    name: "successors are not synced before the switch",
    suites: [SIMULATION, "test/bitcask/compaction_faults.test.ts"],
    changes: [["lib/bitcask/compaction.ts", "await this.#owner.sync();\n      if (this.#closed)", "if (this.#closed)"]],
  },
  {
    name: "tombstones are dropped in a partial compaction",
    suites: [SIMULATION, "test/bitcask/compaction.test.ts"],
    changes: [[
      "lib/bitcask/compaction.ts",
      "cleanBefore: cleanBefore(this.#log.segments, inputs[0]!, this.#owner.committed()),",
      "cleanBefore: this.#owner.committed(),",
    ]],
  },
  {
    name: "tombstones of expired keys are dropped in a partial compaction",
    suites: [SIMULATION, "test/bitcask/compaction.test.ts"],
    changes: [[
      "lib/bitcask/compaction.ts",
      "if (revision <= run.cleanBefore && time < youngest)",
      "if ((kind === KIND.expire || revision <= run.cleanBefore) && time < youngest)",
    ]],
  },
  {
    name: "the floor does not rise when tombstones are dropped",
    suites: ["test/bitcask/compaction.test.ts", SIMULATION],
    changes: [["lib/bitcask/compaction.ts", "run.floor = Math.max(run.floor, revision);", ""]],
  },

  // --- the index ---
  {
    name: "a hint is trusted though it is not of this segment",
    suites: ["test/bitcask/hint.test.ts", "test/bitcask/hint_builder.test.ts"],
    changes: [
      ["lib/bitcask/hint.ts", "  if (!binding.every((byte, index) => header[index] === byte)) return undefined;\n", ""],
      [
        "lib/bitcask/hint.ts",
        "  const seed = crc32(binding);\n  return readU32(header, 92)",
        "  const seed = crc32(header.subarray(0, binding.length));\n  return readU32(header, 92)",
      ],
    ],
  },
  {
    name: "an open by hints keeps the oldest record of a key",
    suites: ["test/bitcask/replay.test.ts", "test/bitcask/hint_builder.test.ts", SIMULATION],
    changes: [[
      "lib/bitcask/replay.ts",
      "new Source(segment, hint, step)).reverse();",
      "new Source(segment, hint, step));",
    ]],
  },
  {
    name: "an open by hints takes equal hashes for equal keys",
    suites: ["test/bitcask/replay.test.ts", "test/bitcask/hint_builder.test.ts"],
    changes: [["lib/bitcask/replay.ts", " && isSameKey(this.#bytes, at, this.#bytes, place)", ""]],
  },
  {
    name: "an open by hints forgets keys that it has seen when there are more than were expected",
    suites: ["test/bitcask/replay.test.ts"],
    changes: [["lib/bitcask/replay.ts", "if (held !== 0) this.add(", "if (held < 0) this.add("]],
  },
  {
    name: "an open by hints compares no key across the end of a range",
    suites: ["test/bitcask/replay.test.ts"],
    changes: [["lib/bitcask/replay.ts", "(limit === undefined || compareEntryWith(bytes, at, limit) < 0)", "true"]],
  },
  {
    name: "a listing sorts what is not yet visible",
    suites: ["test/bitcask/hint_builder.test.ts", "test/store/model.test.ts", SIMULATION],
    changes: [["lib/bitcask/live.ts", "order.reach(offset, 1);", "order.reach(segment.tail - 1, 9_999);"]],
  },
  {
    name: "an offset is made a signed number",
    suites: ["test/bitcask/keydir.test.ts", "test/bitcask/large.test.ts"],
    changes: [["lib/bitcask/keydir.ts", "* ADDRESS_UNIT + words[at + 2]!", "* ADDRESS_UNIT + (words[at + 2]! | 0)"]],
  },

  // --- batches, single-read keys, snapshots ---
  {
    name: "a batch is written without the flag that more follows",
    suites: ["test/bitcask/batch.test.ts"],
    changes: [["lib/bitcask/group.ts", "(record.flags ?? 0) | FLAG.more", "record.flags ?? 0"]],
  },
  {
    name: "an unfinished batch counts",
    suites: ["test/bitcask/batch.test.ts"],
    changes: [["lib/bitcask/recovery.ts", "end: batchStart === -1 ? at : batchStart", "end: at"]],
  },
  {
    name: "a record is copied after its memory was used again",
    suites: ["test/bitcask/compaction.test.ts"],
    changes: [[
      "lib/bitcask/compaction.ts",
      "if (!this.#owner.isLive(record, 0, address)) return record.length;",
      "if (!this.#owner.isLive(record, 0, address) || segment.seek(offset, true) < 0) return record.length;",
    ]],
  },
  {
    name: "a record in two frames counts as checked though one was filled anew",
    suites: ["test/bitcask/frames.test.ts"],
    changes: [["lib/bitcask/frames.ts", "if (before !== 0) this.#forgetLastCheck(before - 1);", ""]],
  },
  {
    name: "a change that has failed is still judged by",
    suites: ["test/bitcask/group.test.ts", "test/bitcask/pending.test.ts"],
    changes: [[
      "lib/bitcask/pending.ts",
      "this.#chains[this.#chainOf(this.#words[place * WORDS]!)] = this.#older[place]!;",
      "",
    ]],
  },
  {
    name: "changes that wait are lost when there are many",
    suites: ["test/bitcask/pending.test.ts"],
    changes: [["lib/bitcask/pending.ts", "      this.#link(change, words[from]!);\n", ""]],
  },
  {
    name: "members of a batch are visible one by one",
    suites: ["test/bitcask/batch.test.ts"],
    changes: [[
      "lib/engine/embedded.ts",
      "committed: (changes) => this.#pending.commit(changes, apply),",
      "committed: (changes) => {\n" +
      "  this.#pending.commit(Math.min(changes, 1), apply);\n" +
      "  if (changes > 1) queueMicrotask(() => this.#pending.commit(changes - 1, apply));\n" +
      "},",
    ]],
  },
  {
    name: "a take is answered before its sync",
    suites: ["test/bitcask/take.test.ts"],
    changes: [["lib/bitcask/group.ts", "if (record.kind === KIND.take) group.mustSync = true;", ""]],
  },
  {
    name: "the value of a single-read key is shown in an event",
    suites: ["test/engine/embedded.test.ts"],
    changes: [[
      "lib/bitcask/feed.ts",
      "? { ...change, content, once: true as const }",
      "? { ...change, value: valueAt(bytes, at), content, once: true as const }",
    ]],
  },
  {
    name: "a snapshot holds a value that was taken meanwhile",
    suites: ["test/bitcask/snapshot.test.ts"],
    changes: [[
      "lib/bitcask/snapshot.ts",
      "if (taken && copied !== undefined) this.#taken.add(copied);",
      "void copied;",
    ]],
  },

  // --- the lock ---
  {
    name: "a lock is judged by its pid alone",
    suites: ["test/fs/process.test.ts"],
    changes: [[
      "lib/fs/process.ts",
      '  if (self.hostname === "" || owner.hostname',
      '  if (owner.pid > 0) return isAbsent(owner.pid) ? "dead" : "alive";\n' +
      '  if (self.hostname === "" || owner.hostname',
    ]],
  },
];
