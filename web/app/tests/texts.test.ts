import { expect, test } from "vitest";
import { mediaTypeOf } from "../src/chat/files";
import { hasFormulas, withDollars } from "../src/markdown/formulas";
import { visibleText } from "../src/markdown/visibleText";

test("controls and bidirectional overrides are written out", () => {
  expect(visibleText("a\u001b[31mred\u0007")).toBe("a␛[31mred␇");
  expect(visibleText("user\u202etxt.exe\u2066\u009b")).toBe("user⟨U+202E⟩txt.exe⟨U+2066⟩⟨U+009B⟩");
});

test("lines, tabs and the letters of all scripts stay", () => {
  const text = "a\tb\r\nשלום עולם 👨‍👩‍👧 e\u0301";
  expect(visibleText(text)).toBe(text);
});

test.each([
  ["a.png", "image/png", "image/png"],
  ["a.svg", "image/svg+xml", null],
  ["a.pdf", "application/pdf", "application/pdf"],
  ["a.html", "text/html", "text/html"],
  ["a.py", "", "text/plain"],
  ["a.txt", "text/plain;charset=utf-8", "text/plain"],
  ["a.exe", "application/octet-stream", null],
])("%s is sent as %s", (name, type, expected) => {
  expect(mediaTypeOf({ name, type })).toBe(expected);
});

test("formulas of TeX are written with dollars, except in code", () => {
  expect(withDollars("a \\(x^2\\) b \\[ y \\] c")).toBe("a $$x^2$$ b \n$$\ny\n$$\n c");
  expect(withDollars("`\\(x\\)` and\n```\n\\[y\\]\n```")).toBe("`\\(x\\)` and\n```\n\\[y\\]\n```");
  expect(hasFormulas("it costs $5 or $6")).toBe(false);
  expect(hasFormulas("$$a$$")).toBe(true);
});
