/// A mistake made on purpose, so that a test can prove that the checker sees it. Never active unless configured.
public enum InjectedFault: String, Sendable, Equatable, CaseIterable {
    /// One message disappears although its sender is told that it is accepted.
    case dropOne
    /// One message takes two places.
    case doubleOne
    /// Two neighbouring messages of one device change places.
    case swapTwo
    /// One message counts wrongly as unread.
    case miscountOne
}

/// Makes one mistake, once.
public struct FaultHook: Sendable, Equatable {
    private var pending: InjectedFault?
    private var skip: Int

    /// - Parameters:
    ///   - fault: the mistake; nil for none.
    ///   - skip: opportunities that pass before it is made, so that it hits the middle of a run.
    public init(_ fault: InjectedFault? = nil, after skip: Int = 0) {
        self.pending = fault
        self.skip = skip
    }

    /// False in every real deployment: lets hot paths skip the bookkeeping.
    public var isArmed: Bool { pending != nil }

    /// Whether the mistake is to be made at this opportunity; true at most once.
    public mutating func fires(_ fault: InjectedFault) -> Bool {
        guard pending == fault else { return false }
        if skip > 0 {
            skip -= 1
            return false
        }
        pending = nil
        return true
    }
}
