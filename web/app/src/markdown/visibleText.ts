/** Controls that change how a terminal or a line of text looks: C0 and C1, bidirectional overrides and isolates. */
// eslint-disable-next-line no-control-regex -- these characters are the point
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** Return the text with its control characters written out, so that it looks like what it is. */
export function visibleText(text: string): string {
  return text.replace(CONTROLS, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}
