import { lazy, Suspense, useEffect, useState } from "react";
import { ChatView } from "./chat/ChatView";
import { Sidebar } from "./Sidebar";
import { SignIn } from "./SignIn";
import { visibleText } from "./markdown/visibleText";
import { PageContext, useChatsPart, usePagePart } from "./data/context";
import { type Page, STATISTICS } from "./data/page";

const StatisticsView = lazy(() => import("./stats/StatisticsView"));

export function App({ page }: { page: Page }) {
  return (
    <PageContext value={page}>
      <Shown />
    </PageContext>
  );
}

/** Keep the browser from opening a dropped file in place of the page. */
function keepPage(event: DragEvent): void {
  if (event.dataTransfer?.types.includes("Files") === true) event.preventDefault();
}

function Shown() {
  useEffect(() => {
    const closing = new AbortController();
    for (const name of ["dragover", "drop"] as const) window.addEventListener(name, keepPage, { signal: closing.signal });
    return () => { closing.abort(); };
  }, []);
  const session = usePagePart((page) => page.session);
  const failure = usePagePart((page) => page.failure);
  if (session === null) {
    return <main className="sign-in">{failure === null ? <p className="status">Loading…</p> : <Unreachable message={failure.message} />}</main>;
  }
  return session.signed_in ? <Shell /> : <SignIn needsKey={session.needs_key} />;
}

function Unreachable({ message }: { message: string }) {
  return (
    <div role="alert">
      <h1>The server does not answer</h1>
      <p>{message}</p>
      <button type="button" className="primary" onClick={() => { location.reload(); }}>
        Try again
      </button>
    </div>
  );
}

function Shell() {
  const [showsSidebar, setShowsSidebar] = useState(false);
  const title = useChatsPart(({ shown }) => shown?.title ?? null);
  const showsStatistics = usePagePart(({ view }) => view === STATISTICS);
  useEffect(() => {
    const shown = showsStatistics ? "Statistics" : title;
    document.title = shown === null || shown === "" ? "turnstream" : `${visibleText(shown)} · turnstream`;
  }, [showsStatistics, title]);
  return (
    <div
      className={showsSidebar ? "shell shows-sidebar" : "shell"}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !showsSidebar) return;
        event.preventDefault();
        setShowsSidebar(false);
      }}
    >
      <Sidebar onChosen={() => { setShowsSidebar(false); }} onSearch={() => { setShowsSidebar(true); }} />
      {showsStatistics ? (
        <Suspense fallback={<main className="chat"><p className="status">Loading…</p></main>}>
          <StatisticsView onMenu={() => { setShowsSidebar(!showsSidebar); }} />
        </Suspense>
      ) : (
        <ChatView onMenu={() => { setShowsSidebar(!showsSidebar); }} />
      )}
    </div>
  );
}
