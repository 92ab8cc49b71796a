import type { StoredBlock, StoredTurn, UserBlock } from "@turnstream/client";
import type { ChatMessage } from "@turnstream/client/chat";
import { useState } from "react";
import { usePage, usePagePart } from "../data/context";
import { CopyButton } from "../parts/CopyButton";
import { Icon } from "../parts/Icon";
import { BlockView } from "./BlockView";
import { Branches } from "./Branches";
import { storedFile } from "./storedFile";

interface QuestionProps {
  readonly message: ChatMessage;
  readonly record: StoredTurn;
}

export function Question({ message, record }: QuestionProps) {
  /** Null until the first edit. False after a cancelled edit: its button gets the focus back. */
  const [isEdited, setIsEdited] = useState<boolean | null>(null);
  const text = record.blocks.map(({ text_content }) => text_content ?? "").join("");
  if (isEdited === true) return <EditedQuestion record={record} text={text} onClose={() => { setIsEdited(false); }} />;
  return (
    <li className="turn user">
      <div className="said">
        <span className="hidden">You said: </span>
        {record.blocks.map((block) => (
          <BlockView key={block.sequence} turnId={record.id} block={{ ...block, open: false }} isPlain />
        ))}
      </div>
      <div className="foot">
        <Branches message={message} />
        <CopyButton text={text} label="Copy question" />
        <button type="button" className="icon" autoFocus={isEdited === false} onClick={() => { setIsEdited(true); }} aria-label="Edit question" title="Edit question">
          <Icon name="edit" />
        </button>
      </div>
    </li>
  );
}

interface EditedQuestionProps {
  readonly record: StoredTurn;
  readonly text: string;
  readonly onClose: () => void;
}

/** A question while it is edited. Its files stay, unless the reader removes them. */
function EditedQuestion({ record, text, onClose }: EditedQuestionProps) {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const [edited, setEdited] = useState(text);
  const [files, setFiles] = useState<readonly StoredBlock[]>(() => record.blocks.filter(({ block_type }) => block_type !== "text"));
  const [isSending, setIsSending] = useState(false);
  const canSend = !isSending && (edited.trim() !== "" || files.length > 0);
  const send = async () => {
    if (!canSend) return;
    setIsSending(true);
    const isSent = await page.attempt(async () => {
      const kept = await Promise.all(files.map((block) => storedFile(record.id, block)));
      const said: UserBlock[] = edited.trim() === "" ? [] : [{ block_type: "text", text_content: edited.trim() }];
      await chat.edit(record, [...kept, ...said], page.getSnapshot().options);
    });
    setIsSending(false);
    if (isSent) onClose();
  };
  return (
    <li className="turn user">
      <form
        className="edit"
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") onClose();
        }}
      >
        {files.length > 0 && (
          <ul className="files" aria-label="Files of the question">
            {files.map((block) => (
              <li key={block.sequence}>
                <BlockView turnId={record.id} block={{ ...block, open: false }} />
                <button type="button" className="icon" onClick={() => { setFiles(files.filter((one) => one !== block)); }} aria-label={`Remove file ${block.sequence + 1}`}>
                  <Icon name="close" />
                </button>
              </li>
            ))}
          </ul>
        )}
        <textarea aria-label="Edit the question" autoFocus value={edited} onChange={(event) => { setEdited(event.target.value); }} />
        <div className="choices">
          <button type="submit" className="primary" disabled={!canSend}>
            Send as a new branch
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </li>
  );
}
