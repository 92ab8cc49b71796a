// The messages of a chat, kept in the browser. A real page keeps them where its users' data is.

export const loadMessages = (id) => JSON.parse(localStorage.getItem(`chat ${id}`) ?? "[]");

export const keepMessages = (id, messages) => localStorage.setItem(`chat ${id}`, JSON.stringify(messages));
