import type { Chat } from "@turnstream/client";
import { useState } from "react";
import { usePage } from "../data/context";
import type { ExportForm } from "./exported";
import { Dialog } from "../parts/Dialog";
import { Icon } from "../parts/Icon";

/** Rename, pin and delete the chat that is shown. */
export function ChatActions({ chat, isPinned }: { chat: Chat; isPinned: boolean }) {
  const page = usePage();
  const [open, setOpen] = useState<"rename" | "export" | "delete" | null>(null);
  const close = () => { setOpen(null); };
  const pin = () => {
    void page.chats.change(chat, { metadata: { ...chat.metadata, pinned: !isPinned } });
  };
  const pinLabel = isPinned ? "Unpin" : "Pin";
  return (
    <>
      <button type="button" className="icon" onClick={pin} aria-pressed={isPinned} aria-label={pinLabel} title={pinLabel}>
        <Icon name="pin" />
      </button>
      <button type="button" className="icon" onClick={() => { setOpen("rename"); }} aria-label="Rename" title="Rename">
        <Icon name="edit" />
      </button>
      <button type="button" className="icon" onClick={() => { setOpen("export"); }} aria-label="Export" title="Export">
        <Icon name="export" />
      </button>
      <button type="button" className="icon" onClick={() => { setOpen("delete"); }} aria-label="Delete" title="Delete">
        <Icon name="trash" />
      </button>
      {open === "rename" && <Rename chat={chat} onClose={close} />}
      {open === "export" && (
        <Dialog title="Export this chat" onClose={close}>
          <p>The shown branch, as a file.</p>
          <div className="row">
            {(["markdown", "json"] as const satisfies readonly ExportForm[]).map((form) => (
              <button
                key={form}
                type="button"
                onClick={() => {
                  close();
                  void page.exportChat(form);
                }}
              >
                {form === "json" ? "JSON" : "Markdown"}
              </button>
            ))}
          </div>
        </Dialog>
      )}
      {open === "delete" && (
        <Dialog title="Delete this chat?" onClose={close}>
          <p>Its turns are deleted too. This cannot be undone.</p>
          <div className="row">
            <button type="button" onClick={close}>
              Keep
            </button>
            <button
              type="button"
              className="danger"
              onClick={() => {
                close();
                void page.chats.delete(chat.id);
              }}
            >
              Delete
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

function Rename({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const page = usePage();
  const [title, setTitle] = useState(chat.title ?? "");
  return (
    <Dialog title="Rename" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void page.chats.change(chat, { title: title.trim(), metadata: { ...chat.metadata, provisional_title: false } });
          onClose();
        }}
      >
        <label>
          Title
          <input value={title} maxLength={500} onChange={(event) => { setTitle(event.target.value); }} />
        </label>
        <div className="row">
          <button type="submit" className="primary">
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
}
