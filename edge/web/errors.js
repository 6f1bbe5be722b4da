// Errors with the stable codes of unetres_edge.errors: what is wrong, what was expected, what was found, and the fix.

export class UnetresError extends Error {
  static code = "error";

  /** @param {{file?: string, expected?: unknown, found?: unknown, fix?: string}} [about] */
  constructor(message, { file, expected, found, fix } = {}) {
    super(message);
    this.name = new.target.name;
    this.code = new.target.code;
    Object.assign(this, { file, expected, found, fix });
  }

  /** One line, as the command line prints it. */
  toString() {
    const parts = [`${this.code}: ${this.file ? `${this.file}: ` : ""}${this.message}`];
    if (this.expected !== undefined) parts.push(`expected ${this.expected}`);
    if (this.found !== undefined) parts.push(`found ${this.found}`);
    if (this.fix !== undefined) parts.push(`fix: ${this.fix}`);
    return parts.join("; ");
  }

  /** Plain values that survive postMessage; `restoreError` turns them back. */
  toJSON() {
    const { code, message, file, expected, found, fix } = this;
    return { code, message, file, fix, expected: expected?.toString(), found: found?.toString() };
  }
}

export class UsageError extends UnetresError { static code = "usage"; }
export class ImageError extends UnetresError { static code = "image"; }
export class ModelError extends UnetresError { static code = "model"; }
export class ModelDamagedError extends ModelError { static code = "model-damaged"; }
export class CardMissingError extends ModelError { static code = "card-missing"; }
/** What the browser or the network refused. */
export class FileSystemError extends UnetresError { static code = "system"; }

const KINDS = [UsageError, ImageError, ModelError, ModelDamagedError, CardMissingError, FileSystemError];

export function restoreError(values) {
  const Kind = KINDS.find((kind) => kind.code === values.code) ?? UnetresError;
  return new Kind(values.message, values);
}
