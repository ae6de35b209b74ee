import Machinery

/// Times and limits of a MsgReader.
public struct MsgReaderConfig: Sendable, Equatable {
    /// How often svid 6 is announced at the Routes.
    public var announceMS: UInt32 = 1000
    /// Longest wait for the hot store: a cache that is slower is of no use.
    public var hotTimeoutMS: UInt32 = 1000
    /// Longest wait for the recent store and for User. Callers wait 5 s and shall learn the reason.
    public var storeTimeoutMS: UInt32 = 3000
    /// Queries not answered yet; more are refused with `overloaded`.
    public var maxItems = 16_384
    /// Queries of several callers in one call to a store. A store refuses more than 4,096, and one that is slow or
    /// fails should fail few.
    public var mergedQueries = 500
    /// Pages in one history request.
    public var maxQueries = 50
    /// Rows in one page.
    public var maxRows: UInt32 = 200
    /// Rows that all pages of one history request may ask for together: bounds what one request makes us hold.
    public var maxRowsPerRequest: UInt32 = 1000
    /// Bytes of messages in one answer, so that it fits a frame; pages are cut (and stay dense), later ones answer
    /// `retry`.
    public var maxResponseBytes = 96 * 1024
    /// For tests of the checker only: `miscountOne` makes one user's unread count in one conversation wrong for good.
    public var fault = FaultHook()

    public init() {}
}
