// The text that is being written, kept for this tab, so that a reload does not lose it.

const name = (chatId: string | null) => `turnstream.draft.${chatId ?? "new"}`;

export function readDraft(chatId: string | null): string {
  try {
    return sessionStorage.getItem(name(chatId)) ?? "";
  } catch {
    return "";
  }
}

export function writeDraft(chatId: string | null, text: string): void {
  try {
    if (text === "") sessionStorage.removeItem(name(chatId));
    else sessionStorage.setItem(name(chatId), text);
  } catch {
    // A browser without storage loses a draft with the page.
  }
}
