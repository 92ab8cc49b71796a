/** Return true if a text has formulas. One dollar sign is money. */
export function hasFormulas(text: string): boolean {
  return /\$\$|\\\(|\\\[/.test(text);
}

const CODE = /(```[\s\S]*?(?:```|$)|~~~[\s\S]*?(?:~~~|$)|`[^`\n]*`)/;

/** Return the text with the formulas of TeX, `\(a\)` and `\[a\]`, written as `$$a$$`. Code is left alone. */
export function withDollars(text: string): string {
  return text
    .split(CODE)
    .map((part, place) =>
      place % 2 === 1 ? part : part.replace(/\\\(([\s\S]*?)\\\)/g, (_, inner: string) => `$$${inner.trim()}$$`).replace(/\\\[([\s\S]*?)\\\]/g, (_, inner: string) => `\n$$\n${inner.trim()}\n$$\n`),
    )
    .join("");
}
