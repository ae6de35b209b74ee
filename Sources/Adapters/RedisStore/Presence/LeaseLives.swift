/// A Login's lease has a part in every partition. One number, its life, tells the Login whether any of them began
/// empty: then it registers everything again.
enum LeaseLives {
    enum Kind: UInt64, Equatable {
        /// The call that asks has begun it: empty.
        case fresh = 0
        /// A registration has begun it, and it holds what was registered since.
        case begun = 1
        /// It is part of a lease that was whole: all parts had one life.
        case whole = 2
    }

    struct Part: Equatable {
        let life: UInt64
        let kind: Kind
    }

    struct Verdict: Equatable {
        let life: UInt64
        /// Parts that have to be given this life first.
        let adopt: [Int]
    }

    /// - Parameter parts: one per partition; not empty.
    static func judge(_ parts: [Part]) -> Verdict {
        let wholes = parts.filter { $0.kind == .whole }
        let greatest = parts.map(\.life).max() ?? 0
        let life: UInt64
        if wholes.isEmpty {
            // A new lease. Whoever registered under it was told the life of its part, so the newest of these stays.
            life = parts.filter { $0.kind == .begun }.map(\.life).max() ?? greatest
        } else if wholes.count == parts.count, parts.allSatisfy({ $0.life == greatest }) {
            life = greatest
        } else {
            // Some parts have lost what the others still hold (or an adoption was cut half-way): a life that nobody
            // has been told yet.
            life = greatest + 1
        }
        let adopt = parts.indices.filter { parts[$0].kind != .whole || parts[$0].life != life }
        return Verdict(life: life, adopt: adopt)
    }
}
