-- A statement is logged in the client's character set, and quoted by the session's sql_mode.
SET NAMES latin1;
CREATE TABLE `session_text_é` (id INT PRIMARY KEY, `ü` VARCHAR(20));
CREATE TABLE `session_text_à` (id INT PRIMARY KEY, `ü` VARCHAR(20));
CREATE TABLE `session_text_ç` (id INT PRIMARY KEY, `ü` VARCHAR(20));
CREATE TABLE `session_text_ø` (id INT PRIMARY KEY);
INSERT INTO `session_text_é` VALUES (1, 'a'), (2, 'b');
INSERT INTO `session_text_à` VALUES (1, 'a'), (2, 'b');
INSERT INTO `session_text_ç` VALUES (1, 'a'), (2, 'b');
INSERT INTO `session_text_ø` VALUES (1);
CREATE TABLE session_text_a (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE session_text_b (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO session_text_a VALUES (1, 'a'), (2, 'b');
INSERT INTO session_text_b VALUES (1, 'a'), (2, 'b');
