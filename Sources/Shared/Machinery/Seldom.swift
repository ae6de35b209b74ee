/// An optional whose value lives in a block of its own, so that nil costs one word: for what is large and, most of the
/// time, not there. Changing the value in place allocates nothing; setting it from nil allocates once.
///
///     @Seldom var handshake: Handshake?
@propertyWrapper
@frozen public struct Seldom<Value: Sendable>: Sendable {
    /// Nothing, or one value.
    @usableFromInline var box: [Value?] = []

    @inlinable public init(wrappedValue: Value?) {
        if let wrappedValue { box = [wrappedValue] }
    }

    /// Asked without touching the value.
    @inlinable public var isNil: Bool { box.isEmpty }

    @inlinable public var wrappedValue: Value? {
        _read {
            if box.isEmpty {
                yield nil
            } else {
                yield box[0]
            }
        }
        _modify {
            if box.isEmpty {
                var value: Value?
                yield &value
                if let value { box = [value] }
            } else {
                yield &box[0]
                if case .none = box[0] { box = [] }
            }
        }
    }
}
