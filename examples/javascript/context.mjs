// What a signature, a seal or a hash covers, in conversations (formats.mjs) as in logs (entries.mjs).
export const number = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

// Every part with its length before it. A number is four bytes.
export function context(label, ...parts) {
  const bytes = [label, ...parts].map((part) => (typeof part === "number" ? number(part) : Buffer.from(part)));
  return Buffer.concat(bytes.flatMap((part) => [number(part.length), part]));
}
