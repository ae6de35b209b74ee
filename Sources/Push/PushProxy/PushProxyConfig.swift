/// Limits of a PushProxy.
public struct PushProxyConfig: Sendable, Equatable {
    /// The log that pushes go to.
    public var log = "push"
    /// Records gathered or being appended; a call that would exceed it is refused with `overloaded`.
    public var maxWaitingRecords = 65_536
    /// Events gathered, looked up or under way; a call that would exceed it is refused with `overloaded`.
    public var maxWaitingEvents = 16_384
    /// Users in one look-up; a call with more is split over several.
    public var maxLookupUsers = 4096
    public var appendTimeoutMS: UInt32 = 5000
    /// Longer than Online waits for the presence store.
    public var lookupTimeoutMS: UInt32 = 4500
    public var eventTimeoutMS: UInt32 = 1500
    /// A fault for tests: the n-th PushMessages call (from 1) is swallowed, once: neither appended nor answered.
    public var dropOnce: Int?

    public init() {}
}
