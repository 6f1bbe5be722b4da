// Errors with the stable codes of unetres_edge.errors: what is wrong, what was expected, what was found, and the fix.

/**
 * What an error says beside its message.
 * @typedef {object} About
 * @property {string} [file] the file concerned
 * @property {unknown} [expected] what would have been right
 * @property {unknown} [found] what was there instead
 * @property {string} [fix] what to do about it
 */

export class UnetresError extends Error {
  static code = "error";

  /**
   * @param {string} message what is wrong
   * @param {About} [about]
   */
  constructor(message, { file, expected, found, fix } = {}) {
    super(message);
    this.name = new.target.name;
    /** @readonly */
    this.code = new.target.code;
    this.file = file;
    this.expected = expected;
    this.found = found;
    this.fix = fix;
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

/**
 * Turn the plain values of `UnetresError.toJSON` back into an error.
 * @param {About & {code: string, message: string}} values
 */
export function restoreError(values) {
  const Kind = KINDS.find((kind) => kind.code === values.code) ?? UnetresError;
  return new Kind(values.message, values);
}
