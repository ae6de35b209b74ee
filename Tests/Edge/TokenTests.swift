import Identity
import Testing

@Suite struct TokenTests {
    static let key = TokenKey(id: "k1", secret: [UInt8](repeating: 1, count: 32))
    static let issuer = TokenIssuer(appID: "demo", key: key)
    static let verifier = TokenVerifier(appID: "demo", keys: [key])
    static let nowMS: UInt64 = 1_730_000_000_000

    @Test func issuedTokensVerify() throws {
        let token = try Self.issuer.issue(userID: "zoë", lifetimeSeconds: 60, epoch: 3, nowMS: Self.nowMS)
        let claims = try Self.verifier.verify(token, nowMS: Self.nowMS + 59_000)
        #expect(claims.appID == "demo" && claims.userID == "zoë" && claims.epoch == 3)
        #expect(claims.expiresAt == Self.nowMS / 1000 + 60)
        #expect(throws: TokenError.expired) { try Self.verifier.verify(token, nowMS: Self.nowMS + 60_000) }
    }

    /// Made with Python's hmac, hashlib and base64, for {"alg":"HS256","kid":"k1","typ":"JWT"} and
    /// {"app":"demo","sub":"alice","exp":2000000000,"te":2}, secret 32 bytes of 0x01.
    @Test func tokensOfOthersVerify() throws {
        let token = [
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0",
            "eyJhcHAiOiJkZW1vIiwic3ViIjoiYWxpY2UiLCJleHAiOjIwMDAwMDAwMDAsInRlIjoyfQ",
            "hhiGHLY6vAOltM5a71KnUtHivzwHi97nUpI-tP55wH0",
        ].joined(separator: ".")
        let claims = try Self.verifier.verify(token, nowMS: Self.nowMS)
        #expect(claims == TokenClaims(appID: "demo", userID: "alice", expiresAt: 2_000_000_000, epoch: 2))
    }

    /// No byte of a token can change without its being refused.
    @Test func everyByteCounts() throws {
        let token = Array(try Self.issuer.issue(userID: "alice", lifetimeSeconds: 60, nowMS: Self.nowMS).utf8)
        for index in token.indices {
            var changed = token
            changed[index] = changed[index] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
            #expect(throws: TokenError.self, "byte \(index)") {
                try Self.verifier.verify(String(decoding: changed, as: UTF8.self), nowMS: Self.nowMS)
            }
        }
        for count in token.indices {
            #expect(throws: TokenError.self) {
                try Self.verifier.verify(String(decoding: token[..<count], as: UTF8.self), nowMS: Self.nowMS)
            }
        }
    }

    @Test func keysAndTimes() throws {
        let token = try Self.issuer.issue(userID: "alice", lifetimeSeconds: 60, nowMS: Self.nowMS)
        let other = TokenVerifier(appID: "demo", keys: [TokenKey(id: "k2", secret: Self.key.secret)])
        #expect(throws: TokenError.unknownKey("k1")) { try other.verify(token, nowMS: Self.nowMS) }
        let empty = TokenVerifier(appID: "demo", keys: [TokenKey(id: "k1", secret: [])])
        #expect(throws: TokenError.unknownKey("k1")) { try empty.verify(token, nowMS: Self.nowMS) }
        let stranger = TokenVerifier(appID: "other", keys: [Self.key])
        #expect(throws: TokenError.unknownKey("k1")) { try stranger.verify(token, nowMS: Self.nowMS) }
        // Another server's clock may be a little ahead, not more.
        #expect(throws: Never.self) { try Self.verifier.verify(token, nowMS: Self.nowMS - 29_000) }
        #expect(throws: TokenError.notYetValid) { try Self.verifier.verify(token, nowMS: Self.nowMS - 31_000) }
    }

    @Test func illegalNamesAreNotIssued() {
        #expect(throws: TokenError.self) { try Self.issuer.issue(userID: "a b", lifetimeSeconds: 1, nowMS: 0) }
        #expect(throws: TokenError.self) {
            try TokenIssuer(appID: "Demo", key: Self.key).issue(userID: "a", lifetimeSeconds: 1, nowMS: 0)
        }
    }

    @Test func malformedTokens() {
        let long = String(repeating: "a", count: TokenLimits.maxBytes + 1)
        for text in ["", ".", "..", "a.b", "a.b.c.d", "e30.e30.", "====.e30.", long, "e30.e30.é"] {
            #expect {
                _ = try UnverifiedToken(text)
            } throws: { error in
                if case .malformed = error as? TokenError { true } else { false }
            }
        }
    }
}
