SET NAMES latin1;
TRUNCATE TABLE `session_text_é`;
INSERT INTO `session_text_é` VALUES (5, 'é');
ALTER TABLE `session_text_à` ADD COLUMN w INT NOT NULL DEFAULT 7;
RENAME TABLE `session_text_ç` TO `session_text_õ`;
DROP TABLE `session_text_ø`;
-- @session greek
-- The server takes these bytes for other letters than they look like.
SET NAMES greek;
CREATE TABLE `session_text_Ω` (id INT PRIMARY KEY) COMMENT 'λ';
INSERT INTO `session_text_Ω` VALUES (1);
TRUNCATE `session_text_Ω`;
-- @session quotes
SET sql_mode = 'NO_BACKSLASH_ESCAPES';
ALTER TABLE session_text_a COMMENT = 'c:\', RENAME TO session_text_c;
ALTER TABLE session_text_b ADD COLUMN w INT COMMENT 'c:\', ADD COLUMN x INT NOT NULL DEFAULT 7 COMMENT '\';
SET sql_mode = 'ANSI_QUOTES';
CREATE TABLE "session_text_d\" (id INT PRIMARY KEY, "a ""b"" \" VARCHAR(20));
INSERT INTO "session_text_d\" VALUES (1, 'a\'b');
ALTER TABLE "session_text_d\" ADD COLUMN w INT NOT NULL DEFAULT 7;
TRUNCATE "session_text_d\";
INSERT INTO "session_text_d\" VALUES (2, 'a\'b', 5);
