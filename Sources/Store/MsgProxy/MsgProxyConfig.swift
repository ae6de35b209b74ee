import Machinery

/// Limits of MsgProxy, with the contract's values as defaults.
public struct MsgProxyConfig: Sendable {
    /// The instance's name, for logs.
    public var instance: String
    public var log = "msg"
    /// V: the buckets, and so the partitions, of this log generation.
    public var buckets: UInt32 = 8
    /// Appends of one bucket that may wait for the log: about 2 s of a busy bucket; more are `busy`.
    public var waitingPerBucket = 4096
    /// Bytes that may wait in all; more are `overloaded`.
    public var waitingBytes = 64 << 20
    /// Entries and bytes in one LogAppend; one caller's records stay together, so the last caller may exceed it.
    public var entriesPerAppend = 4096
    public var bytesPerAppend = 4 << 20
    public var timeoutMS: UInt32 = 5000
    /// For tests of the checker only.
    public var fault = FaultHook()

    public init(instance: String) { self.instance = instance }
}
