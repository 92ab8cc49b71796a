import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { withDollars } from "../src/markdown/formulas";
import { GROUP, MarkdownPieces, splitMarkdown as split } from "../src/markdown/pieces";

describe("pieces of a Markdown text", () => {
  test("paragraphs, headings and fences are pieces of their own", () => {
    expect(split("a\nb\n\n# c\n\n```\nd\n\ne\n```\n\nf")).toEqual(["a\nb\n\n", "# c\n\n", "```\nd\n\ne\n```\n\n", "f"]);
  });

  test("a list with blank lines is one piece", () => {
    expect(split("1. a\n\n   b\n\n2. c\n\nd\n")).toEqual(["1. a\n\n   b\n\n2. c\n\n", "d\n"]);
    expect(split("- a\n\n- b")).toHaveLength(1);
  });

  test("a fence ends with its own kind only", () => {
    expect(split("````\n```\n\n~~~\n\n````\n\na")).toHaveLength(2);
    expect(split("~~~\n\n```\n\nstill code")).toHaveLength(1);
    expect(split("`` a`b ``\n\nc")).toHaveLength(2);
  });

  test("a formula with blank lines is one piece", () => {
    expect(split("$$\na\n\nb\n$$\n\nc")).toEqual(["$$\na\n\nb\n$$\n\n", "c"]);
  });

  test("a text with definitions is one piece, also if the definition comes late", () => {
    expect(split("[a][b]\n\nc\n\n[b]: https://a.example")).toHaveLength(1);
    const pieces = new MarkdownPieces();
    expect(pieces.update("[a][b]\n\nc").groups.flat()).toHaveLength(2);
    expect(pieces.update("[a][b]\n\nc\n\n[b]: https://a.example").groups.flat()).toHaveLength(1);
  });

  const line = fc.constantFrom("", "a", "- b", "1. c", "  d", "```", "~~~~", "$$", "# e", "| f |", "    g", "> h", "[i]: j");
  const texts = fc.array(line, { maxLength: 20 }).map((lines) => lines.join("\n"));

  test("the pieces together are the text", () => {
    fc.assert(fc.property(texts, (text) => { expect(split(text).join("")).toBe(text); }));
  });

  test("a text that grows by any steps ends with the pieces of the whole text", () => {
    fc.assert(
      fc.property(texts, fc.array(fc.nat(100), { maxLength: 10 }), (text, cuts) => {
        const pieces = new MarkdownPieces();
        for (const cut of [...cuts].sort((one, other) => one - other)) pieces.update(text.slice(0, cut));
        const { groups, isMath } = pieces.update(text);
        expect(groups.flat()).toEqual(split(isMath ? withDollars(text) : text));
        expect(isMath).toBe(text.includes("$$"));
      }),
      { numRuns: 2000 },
    );
  });

  test("finished groups stay the same arrays, and a text that is replaced begins anew", () => {
    const paragraphs = (count: number) => Array.from({ length: count }, (_, place) => `paragraph ${place}\n\n`).join("");
    const pieces = new MarkdownPieces();
    const { groups: before } = pieces.update(paragraphs(GROUP + 3));
    const { groups: after } = pieces.update(paragraphs(3 * GROUP));
    expect(before).toHaveLength(2);
    expect(after).toHaveLength(3);
    expect(after[0]).toBe(before[0]);
    expect(after[1]).not.toBe(before[1]);
    expect(pieces.update(paragraphs(3 * GROUP)).groups).toBe(after);
    expect(pieces.update("another text").groups).toEqual([["another text"]]);
  });

  test("control characters are written out, in the growth too", () => {
    const pieces = new MarkdownPieces();
    pieces.update("a\u001b[1m\n\nb");
    expect(pieces.update("a\u001b[1m\n\nb\u202ec").groups.flat()).toEqual(["a␛[1m\n\n", "b⟨U+202E⟩c"]);
  });
});
