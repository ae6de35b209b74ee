/// A map of at most `limit` entries that forgets the older half when it is full: two generations, so that neither a
/// hit nor an eviction costs more than a dictionary access.
public struct BoundedCache<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    public let limit: Int
    private var young: [Key: Value] = [:]
    private var old: [Key: Value] = [:]

    public init(limit: Int) { self.limit = max(2, limit) }

    public subscript(key: Key) -> Value? {
        mutating get {
            if let value = young[key] { return value }
            guard let value = old.removeValue(forKey: key) else { return nil }
            insert(value, key)
            return value
        }
        set {
            old.removeValue(forKey: key)
            if let newValue { insert(newValue, key) } else { young.removeValue(forKey: key) }
        }
    }

    public mutating func removeAll() {
        young = [:]
        old = [:]
    }

    /// Removes what the test says. Linear.
    public mutating func removeAll(where unwanted: (Key) -> Bool) {
        young = young.filter { !unwanted($0.key) }
        old = old.filter { !unwanted($0.key) }
    }

    public var count: Int { young.count + old.count }

    private mutating func insert(_ value: Value, _ key: Key) {
        young[key] = value
        if young.count * 2 >= limit {
            old = young
            young = [:]
        }
    }
}
