import Foundation
import Wire

/// Messages of the last months, their places, and what the writer needs to give each message exactly one place.
///
/// Isolation: confined to the lane of the machine in front of it.
public protocol RecentStore: RowReader {
    /// Takes buckets for a writer: epoch + 1. Failure: the log is another one, or shorter than what was stored from it.
    func claim(_ claims: [BucketClaim]) -> [BucketClaimResult]

    /// Dedup hits and heads, in the order asked; seq 0 where there is none.
    func lookup(_ request: WriterLookup) -> WriterFound

    /// Stores rows of several buckets in one transaction. A bucket whose epoch or offset is not the expected one,
    /// or whose rows do not continue their conversations densely, is a conflict and is left alone; the others go on.
    /// Unavailable: nothing of that bucket was stored. A store that cannot find out whether it was answers conflict:
    /// the next claim says.
    ///
    /// A store may keep what it has taken in memory until `flush`, if a bucket that is lost with the process is found
    /// at an earlier place, whole: position, rows, dedup entries and heads. The log brings the rest back.
    func commit(_ buckets: [BucketCommit]) -> [BucketCommitResult]

    /// Rows taken that `flush` has yet to write; always 0 for a store that writes them at once.
    var unflushedRowCount: Int { get }

    /// Writes about that many rows, whole buckets at a time, longest waiting first.
    func flush(rows: Int) throws(Failure)

    /// Heads and exact unread counts. `marks` is what an earlier answer said, or empty. Answers the first queries, as
    /// many as `RowLimits.answerBytes` hold and at least one; the caller asks again for the others.
    func heads(_ queries: [HeadQuery], since marks: Data) -> HeadsRead

    /// Looks at up to `limit` dedup entries and drops those that left the window. True when there is more to do soon.
    func purgeDedup(limit: Int, nowMS: UInt64) throws(Failure) -> Bool

    /// Records that could not be stored, oldest first, for the operator.
    func deadLetters(limit: Int) throws(Failure) -> [DeadLetter]
}

/// A record that never became a row.
public struct DeadLetter: Equatable, Sendable {
    public let bucket: UInt32
    /// The bucket's offset after the commit that carried it.
    public let offset: UInt64
    public let bytes: Data

    public init(bucket: UInt32, offset: UInt64, bytes: Data) {
        self.bucket = bucket
        self.offset = offset
        self.bytes = bytes
    }
}

/// Pages of rows: what the recent and the hot store have in common for readers.
public protocol RowReader: AnyObject, Sendable {
    /// One page per query, dense and ascending; at most `RowLimits.pageRows` rows, with the
    /// seqs among them that their sender recalled in any later row. `from_seq`: from there up (and below
    /// `before_seq` when that is set too). `before_seq` alone: the newest rows below it. Neither: the newest.
    func rows(_ queries: [RowsQuery]) -> [RowsPage]
}

/// Bounds of pages.
public enum RowLimits {
    /// Most rows of a page.
    public static let pageRows = 1000
    /// What a limit of 0 means.
    public static let pageRowsDefault = 200
    /// A page ends early, dense all the same, when its messages exceed this: 200 of the largest messages fit.
    public static let pageBytes = 8 << 20
    /// Messages of all pages or heads of an answer, which must fit a frame between services; pages beyond fail as
    /// overloaded, heads beyond are left out.
    public static let answerBytes = 12 << 20
    /// Queries in one call.
    public static let queries = 4096
}
