// Files that go with a question: images, PDFs and texts, as blocks.

import type { UserBlock } from "@turnstream/client";

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
/** Bytes of all files of a question. The server takes bodies of 20 MiB, and base64 makes files a third larger. */
export const MOST_BYTES = 14 * 1024 * 1024;

export interface AttachedFile {
  readonly name: string;
  readonly size: number;
  /** Address of a small picture, for an image. */
  readonly preview: string | null;
  readonly block: UserBlock;
}

/** Return the type that the server takes, or null if models do not read such a file. */
export function mediaTypeOf(file: Pick<File, "type" | "name">): string | null {
  const type = file.type.split(";", 1)[0] ?? "";
  if (IMAGES.has(type) || type === "application/pdf" || type === "application/json") return type;
  if (/^text\/[a-z0-9.+-]{1,60}$/.test(type)) return type;
  return /\.(md|txt|csv|log|py|js|ts|tsx|rs|go|c|h|toml|ya?ml|xml|sql|sh)$/i.test(file.name) ? "text/plain" : null;
}

/** Read a file. Throws an Error, with a message for people, if it cannot be sent. */
export async function readFile(file: File): Promise<AttachedFile> {
  const mediaType = mediaTypeOf(file);
  if (mediaType === null) throw new Error(`${file.name}: models read images, PDFs and texts only`);
  if (file.size === 0) throw new Error(`${file.name} is empty`);
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is larger than ${MOST_BYTES / 1024 / 1024} MiB`);
  const data = base64(new Uint8Array(await file.arrayBuffer()));
  const isImage = IMAGES.has(mediaType);
  return {
    name: file.name,
    size: file.size,
    preview: isImage ? `data:${mediaType};base64,${data}` : null,
    block: isImage
      ? { block_type: "image", content: { media_type: mediaType, data } }
      : { block_type: "document", content: { media_type: mediaType, data, title: file.name.slice(0, 500) } },
  };
}

/** Return bytes as base64, which the server expects. */
export function base64(bytes: Uint8Array): string {
  let text = "";
  // A call has a limit of arguments.
  for (let start = 0; start < bytes.length; start += 0x8000) text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  return btoa(text);
}
