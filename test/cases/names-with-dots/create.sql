-- Joined by a dot, the table here and the one in the other schema, which is not captured, have one name.
CREATE DATABASE `{schema}.names_with_dots`;
CREATE TABLE `{schema}.names_with_dots`.`c` (other INT PRIMARY KEY, theirs VARCHAR(20));
INSERT INTO `{schema}.names_with_dots`.`c` VALUES (1, 'theirs');
CREATE TABLE `names_with_dots.c` (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE `names_with_dots.no.key` (`a.b` INT, `v` VARCHAR(20));
CREATE TABLE `names_with_dots.``quoted``` (id INT PRIMARY KEY, `v``.w` VARCHAR(20));
CREATE TABLE `names_with_dots.*` (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO `names_with_dots.c` VALUES (1, 'ours'), (2, 'ours');
INSERT INTO `names_with_dots.no.key` VALUES (1, 'twice'), (1, 'twice');
INSERT INTO `names_with_dots.``quoted``` VALUES (1, 'a');
INSERT INTO `names_with_dots.*` VALUES (1, 'a');
