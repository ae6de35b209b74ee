import Machinery

/// Limits of MsgProxy, with the contract's values as defaults.
public struct MsgProxyConfig: Sendable {
    /// The instance's name, for logs.
    public var instance: String
    public var log = "msg"
    /// V: the buckets, and so the partitions, of this log generation.
    public var buckets: UInt32 = 8
    /// Appends of one bucket that may wait for the log; more are `busy`.
    public var waitingPerBucket = 4096
    /// The group whose progress through the log says how far a bucket lags, and how often it is asked for.
    public var writers = "msgwriter"
    public var progressEveryMS: UInt32 = 500
    /// A bucket whose writer is behind by more answers `busy` to its heaviest conversations: 2 s, and what a position
    /// may wait for by itself, because index entries are written once a second.
    public var lagMS: UInt64 = 3200
    /// Messages a second of one conversation in a bucket that lags by just that; by twice that, half as many.
    public var laggingPerSecond: UInt64 = 100
    /// Bytes that may wait in all; more are `overloaded`.
    public var waitingBytes = 64 << 20
    /// Entries and bytes in one LogAppend; one caller's records stay together, so the last caller may exceed it.
    public var entriesPerAppend = 4096
    public var bytesPerAppend = 4 << 20
    public var timeoutMS: UInt32 = 5000
    /// Messages a second, and at once, of one conversation through this instance; more are `rate_limited`. IM lets 200
    /// pass, of one instance: this holds for all of them and for what services write.
    public var conversationPerSecond = 200
    public var conversationBurst = 400
    /// The same of one app. Far above what one process stores: for the app that would take the others' share.
    public var appPerSecond = 50_000
    public var appBurst = 100_000
    /// Conversations and apps near their limits that are told apart.
    public var limitedConversations = 4096
    public var limitedApps = 256
    /// A record's time is at most this far ahead of this instance's clock; a later one is brought back. Row times never
    /// go back, so one from the future would stay on top of its conversation.
    public var aheadMS: UInt64 = 300_000
    /// For tests of the checker only.
    public var fault = FaultHook()

    public init(instance: String) { self.instance = instance }
}
