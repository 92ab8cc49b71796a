// The files of a question that is sent again. The data is read first, because lists of turns leave it out.

import { lostConnection, refusal, type StoredBlock, TurnstreamError, type UserBlock } from "@turnstream/client";
import { contentAddress, HEADERS } from "../data/api";
import { base64 } from "./files";

/** Return a stored file as a block with its data. Throws a TurnstreamError. */
export async function storedFile(turnId: string, { sequence, block_type, text_content, content }: StoredBlock): Promise<UserBlock> {
  const { size, ...rest } = content ?? {};
  const isWhole = (block_type !== "image" && block_type !== "document") || "data" in rest || "url" in rest || "text" in rest;
  if (isWhole) return { block_type, text_content, content: rest } as UserBlock;
  let bytes: ArrayBuffer;
  try {
    const response = await fetch(contentAddress(turnId, sequence), { headers: HEADERS });
    if (!response.ok) throw await refusal(response);
    bytes = await response.arrayBuffer();
  } catch (error) {
    throw error instanceof TurnstreamError ? error : lostConnection(error);
  }
  if (typeof size === "number" && bytes.byteLength !== size) throw lostConnection(new Error("the file came incomplete"));
  return { block_type, text_content, content: { ...rest, data: base64(new Uint8Array(bytes)) } } as unknown as UserBlock;
}
