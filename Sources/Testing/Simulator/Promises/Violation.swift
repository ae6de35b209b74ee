/// A promise that was broken.
public struct Violation: Equatable, Sendable, CustomStringConvertible {
    public enum Kind: String, Sendable, CaseIterable {
        /// Accepted and not stored, or stored as a placeholder.
        case lost
        /// Stored in two places.
        case duplicated
        /// Stored in another order than its device sent it, or with a time that goes back.
        case outOfOrder
        /// A count that is not what counting gives.
        case unread
        case storedThoughRefused
        /// Stored and never sent.
        case invented
        case notDense
        /// The group offset moved over something that is not everywhere it has to be.
        case deliveredEarly
        /// Something still waits although nothing is wrong any more.
        case stuck
        case replayDiffers
        /// Stored and not shown on a device.
        case notShown
        case shownTwice
        case shownOutOfOrder
        /// A device shows, or is told, something else than what is stored.
        case shownWrong
        /// A device was told not to come back.
        case shutOut
        /// A device is online and its registration is not there, or there are two.
        case unregistered
        /// A machine holds something that it should have let go of.
        case leftOver
    }

    public let kind: Kind
    public let text: String
    public var description: String { "\(kind.rawValue): \(text)" }

    public init(_ kind: Kind, _ text: String) {
        self.kind = kind
        self.text = text
    }
}
