// Requests to the server.

/** Return the answer to a request; throws an Error whose text the page can show. */
export async function answerOf(path, init) {
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is it still running?");
  }
  if (response.ok) return response;
  const content = await response.json().catch(() => ({}));
  throw new Error(content.error ?? `the server answered with status ${response.status}`);
}

/** Return the JSON that a request is answered with. */
export const fetchJson = async (path, init) => (await answerOf(path, init)).json();
