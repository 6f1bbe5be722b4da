/**
 * Turn the plain values of `UnetresError.toJSON` back into an error.
 * @param {About & {code: string, message: string}} values
 */
export function restoreError(values: About & {
    code: string;
    message: string;
}): UnetresError;
/**
 * What an error says beside its message.
 * @typedef {object} About
 * @property {string} [file] the file concerned
 * @property {unknown} [expected] what would have been right
 * @property {unknown} [found] what was there instead
 * @property {string} [fix] what to do about it
 */
export class UnetresError extends Error {
    static code: string;
    /**
     * @param {string} message what is wrong
     * @param {About} [about]
     */
    constructor(message: string, { file, expected, found, fix }?: About);
    /** @readonly */
    readonly code: string;
    file: string | undefined;
    expected: unknown;
    found: unknown;
    fix: string | undefined;
    /** Plain values that survive postMessage; `restoreError` turns them back. */
    toJSON(): {
        code: string;
        message: string;
        file: string | undefined;
        fix: string | undefined;
        expected: string | undefined;
        found: string | undefined;
    };
}
export class UsageError extends UnetresError {
}
export class ImageError extends UnetresError {
}
export class ModelError extends UnetresError {
}
export class ModelDamagedError extends ModelError {
}
export class CardMissingError extends ModelError {
}
/** What the browser or the network refused. */
export class FileSystemError extends UnetresError {
}
/**
 * What an error says beside its message.
 */
export type About = {
    /**
     * the file concerned
     */
    file?: string | undefined;
    /**
     * what would have been right
     */
    expected?: unknown;
    /**
     * what was there instead
     */
    found?: unknown;
    /**
     * what to do about it
     */
    fix?: string | undefined;
};
