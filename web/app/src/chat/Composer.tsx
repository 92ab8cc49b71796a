import { useLiveEvents } from "@turnstream/client/react";
import { useEffect, useEffectEvent, useRef, useState, type MouseEvent } from "react";
import { useChatPart, usePage, usePagePart } from "../data/context";
import { visibleText } from "../markdown/visibleText";
import { Icon } from "../parts/Icon";
import { readDraft, writeDraft } from "./drafts";
import { AnswerCount } from "./AnswerCount";
import { ModelSelect } from "./ModelSelect";
import { Options } from "./Options";
import { MOST_BYTES, readFile, type AttachedFile } from "./files";

const NONE: readonly string[] = [];
/** Milliseconds after a click on "Send" in which a click on "Stop" counts as the second of a double click. */
const DOUBLE_CLICK = 700;

/** The text to send, its files, the model, and the buttons that send and stop. */
export function Composer() {
  const page = usePage();
  const failure = usePagePart((snapshot) => snapshot.failure);
  const options = usePagePart((snapshot) => snapshot.options);
  const chatId = useChatPart(({ chat_id }) => chat_id);
  const running = useChatPart((snapshot) => snapshot.running);
  const siblings = useChatPart(({ messages }) => messages.at(-1)?.siblings ?? NONE);
  const started = useLiveEvents(page.live).running;
  const isSending = useChatPart(({ sending }) => sending);
  const last = useChatPart(({ messages }) => messages.findLast(({ role }) => role === "assistant")?.turn ?? null);
  const [text, setText] = useState(() => readDraft(chatId));
  const [files, setFiles] = useState<readonly AttachedFile[]>([]);
  const [showsOptions, setShowsOptions] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const input = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const clickedAt = useRef(-Infinity);
  const model = options.model ?? last?.asked_model ?? null;
  const isBusy = running !== null || isSending;
  const canSend = !isBusy && (text.trim() !== "" || files.length > 0);

  // The shown answer may end before its alternatives. The reader can stop them then, or send the next question.
  const canStop = running !== null || (!canSend && siblings.some((id) => started.has(id)));

  useEffect(() => { input.current?.focus(); }, []);
  useEffect(() => { writeDraft(chatId, text); }, [chatId, text]);

  const send = async () => {
    if (!canSend) return;
    const [sentText, sentFiles] = [text, files];
    setText("");
    setFiles([]);
    writeDraft(chatId, "");
    if (!(await page.send(sentText.trim(), sentFiles.map(({ block }) => block)))) {
      // The question is not lost with the request: it is back where it was written.
      setText((now) => (now === "" ? sentText : now));
      setFiles((now) => (now.length === 0 ? sentFiles : now));
    }
  };

  const attach = async (list: Iterable<File>) => {
    setProblem(null);
    const read: AttachedFile[] = [];
    for (const file of list) {
      try {
        read.push(await readFile(file));
      } catch (error) {
        setProblem(error instanceof Error ? error.message : String(error));
      }
    }
    const all = [...files, ...read];
    if (all.reduce((sum, { size }) => sum + size, 0) > MOST_BYTES) setProblem(`All files together may have ${MOST_BYTES / 1024 / 1024} MiB.`);
    else setFiles(all);
  };

  const stop = () => void page.stop();
  /** Move the focus to the text if a key has pressed the button, because another button replaces it. */
  const keepFocus = ({ detail }: MouseEvent) => { if (detail === 0) input.current?.focus(); };
  const noteClick = (event: MouseEvent) => {
    clickedAt.current = event.timeStamp;
    keepFocus(event);
  };
  const stopByClick = (event: MouseEvent) => {
    const { detail, timeStamp } = event;
    keepFocus(event);
    if (detail === 0 || (detail < 2 && timeStamp - clickedAt.current > DOUBLE_CLICK)) stop();
  };

  const stopByKey = useEffectEvent((event: KeyboardEvent) => {
    if (event.key !== "Escape" || event.isComposing || event.defaultPrevented || !canStop) return;
    // In these places, and in a dialog, the key has another meaning.
    const isElsewhere = event.target instanceof Element && event.target.closest("form.edit, .sidebar, select") !== null;
    if (!isElsewhere && document.querySelector("dialog[open]") === null) stop();
  });
  const dropped = useEffectEvent((event: DragEvent) => {
    const { dataTransfer } = event;
    if (dataTransfer?.types.includes("Files") === true) void attach(dataTransfer.files);
  });
  // The whole window takes files.
  useEffect(() => {
    const closing = new AbortController();
    const { signal } = closing;
    window.addEventListener("keydown", (event) => { stopByKey(event); }, { signal });
    window.addEventListener("drop", (event) => { dropped(event); }, { signal });
    return () => { closing.abort(); };
  }, []);

  return (
    <div className="composer">
      {failure !== null && (
        <div className="notice error" role="alert">
          <Icon name="warning" />
          <span>{visibleText(`${failure.message}. ${failure.nextStep}`)}</span>
          <button type="button" className="icon" onClick={() => { page.dismiss(); }} aria-label="Dismiss" title="Dismiss">
            <Icon name="close" />
          </button>
        </div>
      )}
      {problem !== null && (
        <p className="notice" role="alert">
          {problem}
        </p>
      )}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
      >
        {files.length > 0 && (
          <ul className="files" aria-label="Files">
            {files.map((file, place) => (
              <li key={place}>
                {file.preview === null ? <span className="file">📄 {visibleText(file.name)}</span> : <img src={file.preview} alt={file.name} />}
                <button type="button" className="icon" onClick={() => { setFiles(files.filter((one) => one !== file)); }} aria-label={`Remove ${file.name}`}>
                  <Icon name="close" />
                </button>
              </li>
            ))}
          </ul>
        )}
        <textarea
          ref={input}
          rows={1}
          aria-label="Message"
          placeholder="Ask something"
          value={text}
          onChange={(event) => { setText(event.target.value); }}
          onPaste={(event) => {
            if (event.clipboardData.files.length === 0) return;
            event.preventDefault();
            void attach(event.clipboardData.files);
          }}
          onKeyDown={(event) => {
            // Enter that ends a composition of characters is part of the text.
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
              event.preventDefault();
              if (!event.repeat) void send();
            } else if (event.key === "ArrowUp" && text === "") {
              const edits = document.querySelectorAll<HTMLButtonElement>('.turn.user button[aria-label="Edit question"]');
              [...edits].at(-1)?.click();
            }
          }}
        />
        <div className="row">
          <input
            ref={picker}
            type="file"
            multiple
            hidden
            accept="image/png,image/jpeg,image/gif,image/webp,application/pdf,text/*,application/json"
            onChange={(event) => {
              void attach([...(event.target.files ?? [])]);
              event.target.value = "";
            }}
          />
          <button type="button" className="icon" onClick={() => { picker.current?.click(); }} aria-label="Attach files" title="Attach files">
            <Icon name="attach" />
          </button>
          <ModelSelect label="Model" model={model} onChosen={(chosen) => { page.setOptions({ ...options, model: chosen, alternatives: null }); }} />
          <AnswerCount options={options} model={model} />
          <button type="button" className="icon" onClick={() => { setShowsOptions(true); }} aria-label="Options" title="Options">
            <Icon name="settings" />
          </button>
          <span className="space" />
          {/* The second click of a double click on "Send" must not stop the answer. */}
          {!canStop ? (
            <button type="submit" className="primary" disabled={!canSend} onClick={noteClick} aria-label="Send" title="Send (Enter)">
              <Icon name="send" />
            </button>
          ) : (
            <button type="button" className="primary" onClick={stopByClick} aria-label="Stop" title="Stop (Esc)">
              <Icon name="stop" /> Stop
            </button>
          )}
        </div>
      </form>
      {showsOptions && (
        <Options
          options={{ ...options, system: options.system ?? last?.system ?? null, params: options.params ?? last?.params ?? {} }}
          onSaved={(saved) => { page.setOptions(saved); }}
          onClose={() => { setShowsOptions(false); }}
        />
      )}
      <p>Enter sends, Shift+Enter starts a line, Esc stops.</p>
    </div>
  );
}
