/// A dictionary for values that are large and change in place. Changing a field of a value in a `Dictionary` moves the
/// whole value out and back and allocates a frame for the accessor, and reading a field copies all of it; here both
/// touch the field only. Measured on the message path: a fifth of all allocations.
///
/// Order is not defined, as in a dictionary.
@frozen public struct SlotTable<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    @usableFromInline var places: [Key: Int] = [:]
    /// The first slot is what a key without a value has: always nil. So the accessors below yield at one place, and the
    /// compiler can inline them; with two it calls a coroutine, which allocates its frame.
    @usableFromInline var slots: [Value?] = [nil]
    @usableFromInline var free: [Int] = []

    @inlinable public init() {}

    @inlinable public var count: Int { places.count }
    @inlinable public var isEmpty: Bool { places.isEmpty }
    @inlinable public var keys: Dictionary<Key, Int>.Keys { places.keys }

    /// The value, to be read or changed in place; nil when there is none. Setting nil removes it.
    @inlinable public subscript(key: Key) -> Value? {
        @inline(__always) _read {
            yield slots[places[key] ?? 0]
        }
        @inline(__always) _modify {
            let place = places[key] ?? 0
            // Also when the caller throws meanwhile.
            defer {
                if case .none = slots[place] {
                    if place != 0 { drop(key, place) }
                } else if place == 0 {
                    settle(key)
                }
            }
            yield &slots[place]
        }
    }

    /// Changes or reads the value in place; nil when there is none. On the message path rather than the subscript:
    /// where the compiler does not inline that, each access allocates a frame.
    @discardableResult
    @inlinable @inline(__always)
    public mutating func change<Result>(_ key: Key, _ body: (inout Value) -> Result) -> Result? {
        guard let place = places[key] else { return nil }
        return body(&slots[place]!)
    }

    /// The same for what has no answer by itself: one nil for both.
    @discardableResult
    @inlinable @inline(__always)
    public mutating func change<Result>(_ key: Key, _ body: (inout Value) -> Result?) -> Result? {
        guard let place = places[key] else { return nil }
        return body(&slots[place]!)
    }

    /// A key without a value was given one.
    @inlinable mutating func settle(_ key: Key) {
        var value: Value?
        swap(&value, &slots[0])
        if let value { insert(value, key) }
    }

    /// Puts a value in where there is none.
    @inlinable public mutating func add(_ key: Key, _ value: @autoclosure () -> Value) {
        if places[key] == nil { insert(value(), key) }
    }

    /// Takes a value out.
    @inlinable public mutating func removeValue(forKey key: Key) -> Value? {
        guard let place = places[key] else { return nil }
        var value: Value?
        swap(&value, &slots[place])
        drop(key, place)
        return value
    }

    /// Visits all values.
    @inlinable public func forEach(_ body: (Key, borrowing Value) -> Void) {
        for (key, place) in places {
            if let value = slots[place] { body(key, value) }
        }
    }

    @inlinable public func reduce<Result>(_ first: Result, _ next: (Result, borrowing Value) -> Result) -> Result {
        var result = first
        forEach { _, value in result = next(result, value) }
        return result
    }

    /// The keys of the values that the test picks.
    @inlinable public func keys(where isWanted: (borrowing Value) -> Bool) -> [Key] {
        var found: [Key] = []
        forEach { key, value in if isWanted(value) { found.append(key) } }
        return found
    }

    @inlinable mutating func insert(_ value: Value, _ key: Key) {
        if let place = free.popLast() {
            slots[place] = value
            places[key] = place
        } else {
            places[key] = slots.count
            slots.append(value)
        }
    }

    @inlinable mutating func drop(_ key: Key, _ place: Int) {
        places[key] = nil
        free.append(place)
    }
}

extension SlotTable: ExpressibleByDictionaryLiteral {
    @inlinable public init(dictionaryLiteral elements: (Key, Value)...) {
        for (key, value) in elements { self[key] = value }
    }
}

extension SlotTable: CustomReflectable {
    /// What a dictionary with the same content shows: free places are nobody's business.
    public var customMirror: Mirror {
        var content: [Key: Value] = [:]
        for (key, place) in places { content[key] = slots[place] }
        return Mirror(self, unlabeledChildren: content.map { $0 }, displayStyle: .dictionary)
    }
}
