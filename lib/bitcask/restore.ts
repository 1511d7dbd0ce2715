/**
 * A copy of a closed store, such as a snapshot, that is sound to the last byte.
 *
 * The source is read and checked wholly before anything is written; its segments are copied as they are and the copy is
 * checked too; the manifest comes last. The copy keeps the store's id, which every checksum is bound to, but has an
 * epoch of its own: from here on it goes its own way, and a cursor from the other one means nothing in it.
 *
 * @module
 */
import { toHex } from "../base/bytes.ts";
import { FirkinError } from "../base/errors.ts";
import type { FileSystem } from "../fs/fs.ts";
import { writeManifest } from "./manifest.ts";
import { segmentName } from "./segment.ts";
import { intoEmptyFolder } from "./snapshot.ts";
import { pause, SLICE_BYTES, survey, type Verification, type VerifyLogOptions } from "./verify.ts";

/**
 * Copies the store in `source` into `target`, which is empty or missing.
 * @throws {FirkinError} CORRUPT — the source is damaged, at the place in the error's `detail`; INVALID — the target is
 * not empty; FULL, IO
 */
export async function restoreLog(
  source: FileSystem,
  target: FileSystem,
  options: VerifyLogOptions,
): Promise<Verification> {
  const { inventory, verification } = await survey(source, options);
  refuseDamage(source, verification);
  return await intoEmptyFolder(target, async () => {
    for (const id of inventory.manifest.segments) await copyFile(source, target, segmentName(id), options);
    await target.syncDirectory();
    const epoch = toHex(options.clock.random(new Uint8Array(8)));
    const copied = { ...inventory, manifest: { ...inventory.manifest, epoch } };
    const result = await survey(target, { clock: options.clock }, copied);
    refuseDamage(target, result.verification);
    await writeManifest(target, copied.manifest);
    return result.verification;
  });
}

/** A torn end is refused too: no store that was closed has one, so a copy of it was cut. */
function refuseDamage(folder: FileSystem, { damage, tail }: Verification): void {
  const [first] = damage;
  const place = first ?? tail;
  if (place === undefined) return;
  const { file, offset, segment } = place;
  const what = first?.problem ?? tail?.type;
  const message = `Cannot restore: ${folder.path}/${file} is damaged at offset ${offset} (${what})`;
  throw new FirkinError("CORRUPT", message, {
    detail: { path: file, offset, ...(segment === undefined ? {} : { segment }) },
  });
}

async function copyFile(
  source: FileSystem,
  target: FileSystem,
  name: string,
  options: VerifyLogOptions,
): Promise<void> {
  const from = source.open(name, "read");
  try {
    const to = target.open(name, "create");
    try {
      const size = from.size();
      const slice = new Uint8Array(Math.min(SLICE_BYTES, size));
      for (let offset = 0; offset < size; offset += slice.length) {
        to.write(slice.subarray(0, from.read(slice, offset)), offset);
        await pause(options.clock);
      }
      await to.sync();
    } finally {
      to.close();
    }
  } finally {
    from.close();
  }
}
