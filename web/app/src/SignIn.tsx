import { useState } from "react";
import { usePage, usePagePart } from "./data/context";

/** Ask for the server's key. The browser keeps a cookie that no script can read, and not the key. */
export function SignIn({ needsKey }: { needsKey: boolean }) {
  const page = usePage();
  const failure = usePagePart((snapshot) => snapshot.failure);
  const [key, setKey] = useState("");
  const [isSending, setIsSending] = useState(false);
  const send = async () => {
    setIsSending(true);
    await page.signIn(key);
    setKey("");
    setIsSending(false);
  };
  if (!needsKey) {
    return (
      <main className="sign-in">
        <div>
          <h1>turnstream</h1>
          <p>This server does not let this browser in. It serves its own machine only, unless its operator sets a key.</p>
        </div>
      </main>
    );
  }
  return (
    <main className="sign-in">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!isSending) void send();
        }}
      >
        <h1>turnstream</h1>
        <label>
          The server’s key
          <input type="password" autoComplete="current-password" required value={key} onChange={(event) => { setKey(event.target.value); }} />
        </label>
        {failure !== null && (
          <p className="notice error" role="alert">
            {failure.message}
          </p>
        )}
        <button type="submit" className="primary" disabled={isSending}>
          Sign in
        </button>
      </form>
    </main>
  );
}
