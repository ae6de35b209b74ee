/// The relational store's tables, one string per version of the layout; never change one that was released.
enum UserSchema {
    static let steps = [
        """
        CREATE TABLE app(
            id TEXT PRIMARY KEY, name TEXT NOT NULL, suspended INTEGER NOT NULL, multi_session INTEGER NOT NULL,
            version INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE app_key(
            app TEXT NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, secret BLOB NOT NULL, retired INTEGER NOT NULL,
            PRIMARY KEY(app, place)) WITHOUT ROWID;
        CREATE TABLE user(
            no INTEGER PRIMARY KEY, app TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
            token_epoch INTEGER NOT NULL, present INTEGER NOT NULL, nickname TEXT NOT NULL, avatar TEXT NOT NULL,
            custom BLOB NOT NULL, UNIQUE(app, id));
        CREATE TABLE entry(
            user INTEGER NOT NULL, conversation TEXT NOT NULL, version INTEGER NOT NULL, joined INTEGER NOT NULL,
            left_seq INTEGER NOT NULL, cleared INTEGER NOT NULL, read_seq INTEGER NOT NULL, delivered INTEGER NOT NULL,
            pinned INTEGER NOT NULL, muted INTEGER NOT NULL, draft TEXT NOT NULL, peer TEXT NOT NULL,
            PRIMARY KEY(user, conversation)) WITHOUT ROWID;
        """
    ]
}

/// The statements of the relational store, compiled once.
struct UserStatements {
    let appGet, appList, appPut, keyGet, keyPut, keyDrop: Statement
    let userGet, userAdd, profileGet, profilePut, epochPut, versionPut: Statement
    let entryGet, entryPage, entryPut: Statement

    init(_ database: SQLiteDatabase) throws(SQLiteError) {
        let app = "SELECT id, name, suspended, multi_session, version FROM app"
        appGet = try database.prepare("\(app) WHERE id = ?1")
        appList = try database.prepare("\(app) ORDER BY id LIMIT ?1")
        appPut = try database.prepare(
            """
            INSERT INTO app(id, name, suspended, multi_session, version) VALUES(?1, ?2, ?3, ?4, 1)
            ON CONFLICT(id) DO UPDATE SET name = ?2, suspended = ?3, multi_session = ?4, version = version + 1
            """)
        keyGet = try database.prepare("SELECT id, secret, retired FROM app_key WHERE app = ?1 ORDER BY place")
        keyPut = try database.prepare("INSERT INTO app_key(app, place, id, secret, retired) VALUES(?1, ?2, ?3, ?5, ?4)")
        keyDrop = try database.prepare("DELETE FROM app_key WHERE app = ?1")
        userGet = try database.prepare(
            "SELECT no, version, token_epoch, present, nickname, avatar, custom FROM user WHERE app = ?1 AND id = ?2")
        userAdd = try database.prepare("INSERT INTO user VALUES(NULL, ?1, ?2, 0, 0, 0, '', '', x'')")
        profileGet = try database.prepare("SELECT nickname, avatar, custom FROM user WHERE no = ?1")
        profilePut = try database.prepare(
            "UPDATE user SET present = 1, nickname = ?2, avatar = ?3, custom = ?4 WHERE no = ?1")
        epochPut = try database.prepare(
            "UPDATE user SET present = 1, token_epoch = max(token_epoch, ?2) WHERE no = ?1")
        versionPut = try database.prepare("UPDATE user SET version = ?2 WHERE no = ?1")
        let entry = """
            SELECT conversation, version, joined, left_seq, cleared, read_seq, delivered, pinned, muted, draft, peer
            FROM entry WHERE user = ?1
            """
        entryGet = try database.prepare("\(entry) AND conversation = ?2")
        entryPage = try database.prepare(
            "\(entry) AND conversation > ?2 AND version > ?3 ORDER BY conversation LIMIT ?4")
        entryPut = try database.prepare(
            "INSERT OR REPLACE INTO entry VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")
    }
}
